package socket

import (
	"testing"
	"unsafe"
)

// TestSocketSize: every connection has one. 64 is a size class of Go's
// allocator; one byte more would cost 80.
func TestSocketSize(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("for pointers of 8 bytes")
	}
	if n := unsafe.Sizeof(Socket{}); n > 64 {
		t.Errorf("a Socket has %d bytes", n)
	}
}
