// Package wsproto reads a client's WebSocket frames and writes a server's, as
// RFC 6455 wants them, with no connection of its own: bytes in, messages and
// bytes out.
package wsproto

// Close codes (RFC 6455 section 7.4.1 and IANA's registry).
const (
	CloseNormal       = 1000
	CloseGoingAway    = 1001
	CloseProtocol     = 1002
	CloseUnsupported  = 1003
	CloseInvalidUTF8  = 1007
	ClosePolicy       = 1008
	CloseTooBig       = 1009
	CloseInternal     = 1011
	CloseRestart      = 1012
	CloseTryLater     = 1013
	CloseUnauthorized = 3000
	CloseForbidden    = 3003
)

// AppendText appends one unmasked, unfragmented text frame.
func AppendText(dst, payload []byte) []byte { panic("unwritten") }

// AppendPing and AppendPong append a control frame; payload is at most 125
// bytes.
func AppendPing(dst, payload []byte) []byte { panic("unwritten") }

// AppendPong see AppendPing.
func AppendPong(dst, payload []byte) []byte { panic("unwritten") }

// AppendClose appends a close frame; reason is cut to fit, at a rune.
func AppendClose(dst []byte, code int, reason string) []byte { panic("unwritten") }

// Receiver is told what a Reader finds.
type Receiver interface {
	// Text is one whole text message, valid UTF-8, valid during the call only.
	Text(p []byte)
	// Ping must be answered with a pong of the same payload.
	Ping(p []byte)
	Pong(p []byte)
	// Close is the peer's close frame; code is 1005 if it gave none.
	Close(code int, reason string)
}

// Reader takes a client's bytes as they come. It holds at most one message and
// no buffer while idle.
type Reader struct {
	// MaxMessage bounds a message, over all its fragments.
	MaxMessage int
}

// Feed parses p, calling to for each message as it is complete. A violation
// ends the connection: it comes back as a *CloseError, with the code to close
// with. After an error or a close frame further bytes are ignored.
func (r *Reader) Feed(p []byte, to Receiver) error { panic("unwritten") }

// CloseError is a violation of the protocol by the peer.
type CloseError struct {
	Code   int
	Reason string
}

// Error gives the reason.
func (e *CloseError) Error() string { return e.Reason }
