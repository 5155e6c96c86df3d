package fiberbridge

import "unsafe"

// unsafeString is p as a string without a copy, as Fiber hands out its own.
func unsafeString(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }
