//go:build !unix

package socket

const canPeek = false

// Gone is never asked here; see PeerOf.
func (p Peer) Gone() bool { return false }
