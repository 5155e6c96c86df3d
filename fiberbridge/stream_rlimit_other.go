//go:build !unix

package fiberbridge

// defaultStreamLimit is a bound where the system names none.
func defaultStreamLimit() int { return 1 << 16 }
