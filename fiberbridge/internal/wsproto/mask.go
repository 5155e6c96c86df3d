package wsproto

import (
	"encoding/binary"
	"math/bits"
)

// unmask undoes a client's masking in place (RFC 6455 section 5.3), eight
// bytes at a time. key holds the four key bytes in little-endian order, the
// one due next lowest; the key for the byte after p is returned.
func unmask(p []byte, key uint32) uint32 {
	if len(p) >= 8 {
		wide := uint64(key)<<32 | uint64(key)
		for len(p) >= 8 {
			binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^wide)
			p = p[8:]
		}
	}
	for i := range p {
		p[i] ^= byte(key)
		key = bits.RotateLeft32(key, -8)
	}
	return key
}
