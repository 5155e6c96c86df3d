//go:build !linux

package bench

func serveChild() bool { return false }
