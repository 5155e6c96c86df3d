package fanout

import (
	"testing"
	"unsafe"
)

// TestOutletSize: every subscriber has one. 112 is a size class of Go's
// allocator; one byte more would cost 128.
func TestOutletSize(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("for pointers of 8 bytes")
	}
	if n := unsafe.Sizeof(Outlet{}); n > 112 {
		t.Errorf("an Outlet has %d bytes", n)
	}
}
