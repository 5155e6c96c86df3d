package fiberbridge

import (
	"testing"
	"unsafe"
)

// TestStreamSizes: every subscriber has one. 160 and 256 are size classes of Go's
// allocator; one byte more would cost 176 and 288, and until the next collection
// about twice that.
func TestStreamSizes(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("for pointers of 8 bytes")
	}
	if n := unsafe.Sizeof(sseStream{}); n > 160 {
		t.Errorf("an SSE stream has %d bytes", n)
	}
	if n := unsafe.Sizeof(wsStream{}); n > 256 {
		t.Errorf("a WebSocket stream has %d bytes", n)
	}
}
