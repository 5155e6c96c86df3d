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

// closeNone stands for a close frame without a code; it never goes over the
// wire (RFC 6455 section 7.4.1).
const closeNone = 1005

// Opcodes (RFC 6455 section 11.8).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const (
	finBit      = 0x80
	rsvBits     = 0x70
	opcodeBits  = 0x0F
	controlBit  = 0x08
	maskBit     = 0x80
	lengthBits  = 0x7F
	length16    = 126
	length64    = 127
	maxControl  = 125
	maxReason   = maxControl - 2
	maxHeader   = 2 + 8 + 4
	max16       = 0xFFFF
	defaultSize = 4096
)

// CloseError is a violation of the protocol by the peer.
type CloseError struct {
	Code   int
	Reason string
}

// Error gives the reason.
func (e *CloseError) Error() string { return e.Reason }

// sendable tells whether a close frame may carry code: those that the RFC
// defines for the wire, those registered with IANA since, and the ranges for
// libraries and applications.
func sendable(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}
