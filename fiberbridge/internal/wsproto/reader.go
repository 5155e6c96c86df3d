package wsproto

import (
	"encoding/binary"
	"unicode/utf8"
)

// Receiver is told what a Reader finds, in the order in which it came.
type Receiver interface {
	// Text is one whole text message, valid UTF-8, valid during the call only.
	Text(p []byte)
	// Ping must be answered with a pong of the same payload, which is valid
	// during the call only.
	Ping(p []byte)
	Pong(p []byte)
	// Fragment is a part of a text message that is not its last.
	Fragment()
	// Close is the peer's close frame; code is 1005 if it gave none. Nothing
	// follows.
	Close(code int, reason string)
	// Violation ends the connection, with the code to close with. Only Close
	// may follow.
	Violation(v *CloseError)
}

// Reader takes a client's bytes as they come, in pieces of any size. It holds
// at most one message and one control frame, and no buffer while idle. The
// zero value is ready. It is not safe for concurrent use, and a Receiver must
// not call Feed.
//
// A frame is judged as soon as enough of it is there: a message that is too
// big by its header, a reserved bit or a first invalid UTF-8 byte ends the
// connection before the rest is read or held.
type Reader struct {
	// MaxMessage bounds a message, over all its fragments. Defaults to 4096.
	MaxMessage int

	head    [maxHeader]byte
	headLen uint8 // bytes in head, of a header that is not whole yet

	inPayload bool // the header is done, left bytes of its payload are due
	final     bool
	deaf      bool // Stop, or a violation: only a close frame counts
	over      bool // a close frame was read
	fragments bool // a text message has begun and its last fragment has not
	opcode    byte
	key       uint32
	left      uint64

	message []byte // what is there of a message that did not come in one piece
	valid   int    // leading bytes of message that are whole, valid runes
	control []byte // the same of a control frame
}

// Idle reports whether the Reader stands between two messages, with nothing to
// remember: a new one would do as well.
func (r *Reader) Idle() bool {
	return r.headLen == 0 && !r.inPayload && !r.deaf && !r.over && !r.fragments && r.message == nil && r.control == nil
}

// Stop lets Feed go over everything but the peer's close frame, which ends a
// connection at once when ours is under way (RFC 6455 section 7.1.1). A
// Receiver may call it.
func (r *Reader) Stop() {
	r.deaf = true
	r.message, r.control = nil, nil
}

// Feed parses p, telling to of each message as it is complete. It changes p
// (payloads are unmasked in place) and keeps nothing of it. After a close
// frame further bytes are ignored.
func (r *Reader) Feed(p []byte, to Receiver) {
	for !r.over {
		if !r.inPayload {
			rest, whole, violation := r.header(p)
			p = rest
			switch {
			case violation != nil: // the header is not done yet, and goes on
				r.fail(violation, to)
				continue
			case !whole:
				return
			}
			r.inPayload = true
		} else if len(p) == 0 {
			return
		}
		n := int(min(r.left, uint64(len(p))))
		r.key = unmask(p[:n], r.key)
		r.left -= uint64(n)
		if r.left == 0 {
			r.inPayload = false
		}
		if r.deaf {
			r.goOver(to)
		} else if violation := r.payload(p[:n], to); violation != nil {
			r.fail(violation, to)
			r.goOver(to) // it may have been a close frame
		}
		p = p[n:]
	}
}

func (r *Reader) fail(violation *CloseError, to Receiver) {
	r.Stop()
	to.Violation(violation)
}

// goOver notices the end of a close frame, whatever is in it.
func (r *Reader) goOver(to Receiver) {
	if r.opcode == opClose && r.left == 0 {
		r.over = true
		to.Close(closeNone, "")
	}
}

// header gathers a frame header, and judges it unless the Reader is deaf; rest
// is p without it. After a violation it can be called again for the rest.
func (r *Reader) header(p []byte) (rest []byte, whole bool, violation *CloseError) {
	if p = r.gather(p, 2); r.headLen < 2 {
		return p, false, nil
	}
	r.final, r.opcode = r.head[0]&finBit != 0, r.head[0]&opcodeBits
	if !r.deaf {
		if v := r.judgeStart(); v != nil {
			return p, false, v
		}
	}
	lengthEnd := uint8(2)
	switch r.head[1] & lengthBits {
	case length16:
		lengthEnd += 2
	case length64:
		lengthEnd += 8
	}
	if p = r.gather(p, lengthEnd); r.headLen < lengthEnd {
		return p, false, nil
	}
	r.left = r.length()
	if !r.deaf {
		if v := r.judgeLength(); v != nil {
			return p, false, v
		}
	}
	end := lengthEnd
	if r.head[1]&maskBit != 0 { // always, unless deaf
		end += 4
	}
	if p = r.gather(p, end); r.headLen < end {
		return p, false, nil
	}
	r.key = binary.LittleEndian.Uint32(r.head[lengthEnd:])
	r.headLen = 0
	return p, true, nil
}

// gather moves bytes from p to head until head has want of them.
func (r *Reader) gather(p []byte, want uint8) []byte {
	if r.headLen >= want {
		return p
	}
	n := copy(r.head[r.headLen:want], p)
	r.headLen += uint8(n)
	return p[n:]
}

// judgeStart checks a header's first two bytes.
func (r *Reader) judgeStart() *CloseError {
	first, second := r.head[0], r.head[1]
	switch {
	case first&rsvBits != 0:
		return violation("reserved bits are set")
	case r.opcode > opBinary && r.opcode < opClose, r.opcode > opPong:
		return violation("reserved opcode")
	case second&maskBit == 0:
		return violation("frame is not masked")
	case r.opcode&controlBit != 0 && !r.final:
		return violation("fragmented control frame")
	case r.opcode&controlBit != 0 && second&lengthBits > maxControl:
		return violation("control frame over 125 bytes")
	case r.opcode == opContinuation && !r.fragments:
		return violation("continuation of nothing")
	case r.opcode == opText && r.fragments, r.opcode == opBinary && r.fragments:
		return violation("new message inside a fragmented one")
	case r.opcode == opBinary:
		return &CloseError{Code: ClosePolicy, Reason: "binary message"}
	}
	return nil
}

// length is the payload's, of a header that has it.
func (r *Reader) length() uint64 {
	switch short := r.head[1] & lengthBits; short {
	case length16:
		return uint64(binary.BigEndian.Uint16(r.head[2:]))
	case length64:
		return binary.BigEndian.Uint64(r.head[2:])
	default:
		return uint64(short)
	}
}

// judgeLength checks the payload's length.
func (r *Reader) judgeLength() *CloseError {
	short := r.head[1] & lengthBits
	switch {
	case r.left > 1<<63-1:
		return violation("length has its top bit set")
	case short == length16 && r.left < length16, short == length64 && r.left <= max16:
		return violation("length is not encoded minimally")
	case r.opcode&controlBit == 0 && r.left > uint64(r.limit()-len(r.message)):
		return &CloseError{Code: CloseTooBig, Reason: "message too big"}
	}
	return nil
}

func (r *Reader) limit() int {
	if r.MaxMessage <= 0 {
		return defaultSize
	}
	return r.MaxMessage
}

// payload takes the next unmasked bytes of a frame; left is already without
// them.
func (r *Reader) payload(p []byte, to Receiver) *CloseError {
	if r.opcode&controlBit == 0 {
		return r.textPart(p, to)
	}
	if r.left > 0 {
		if len(p) > 0 {
			r.control = appendAtMost(r.control, p, maxControl)
		}
		return nil
	}
	if r.control != nil {
		p = appendAtMost(r.control, p, maxControl)
		r.control = nil
	}
	return r.controlFrame(p, to)
}

// textPart takes the next bytes of a text message.
func (r *Reader) textPart(p []byte, to Receiver) *CloseError {
	end := r.left == 0 && r.final
	if r.left == 0 && !r.final {
		to.Fragment()
		if r.deaf {
			return nil
		}
	}
	r.fragments = !end
	if end && r.message == nil { // all of it in one piece
		if !utf8.Valid(p) {
			return invalidUTF8()
		}
		to.Text(p)
		return nil
	}
	if len(p) > 0 {
		r.message = appendAtMost(r.message, p, r.limit())
	}
	whole, ok := wholeRunes(r.message[r.valid:])
	r.valid += whole
	if !ok || end && r.valid < len(r.message) {
		return invalidUTF8()
	}
	if end {
		message := r.message
		r.message, r.valid = nil, 0
		to.Text(message)
	}
	return nil
}

func (r *Reader) controlFrame(p []byte, to Receiver) *CloseError {
	switch r.opcode {
	case opPing:
		to.Ping(p)
	case opPong:
		to.Pong(p)
	case opClose:
		code, reason := closeNone, ""
		if len(p) == 1 {
			return violation("close frame of one byte")
		}
		if len(p) >= 2 {
			code = int(binary.BigEndian.Uint16(p))
			if !sendable(code) {
				return violation("invalid close code")
			}
			if !utf8.Valid(p[2:]) {
				return invalidUTF8()
			}
			reason = string(p[2:])
		}
		r.Stop()
		r.over = true
		to.Close(code, reason)
	}
	return nil
}

// wholeRunes returns how many leading bytes of p are whole runes. ok is false
// if p cannot become valid UTF-8 by more bytes.
func wholeRunes(p []byte) (n int, ok bool) {
	n = len(p)
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		if start := len(p) - back; utf8.RuneStart(p[start]) {
			if !utf8.FullRune(p[start:]) {
				n = start
			}
			break
		}
	}
	return n, utf8.Valid(p[:n])
}

// appendAtMost appends like append, but never lets the capacity grow beyond
// limit, which the result is known to fit in.
func appendAtMost(dst, p []byte, limit int) []byte {
	if need := len(dst) + len(p); need > cap(dst) {
		grown := make([]byte, len(dst), min(max(need, 2*cap(dst)), limit))
		copy(grown, dst)
		dst = grown
	}
	return append(dst, p...)
}

func violation(reason string) *CloseError {
	return &CloseError{Code: CloseProtocol, Reason: reason}
}

func invalidUTF8() *CloseError {
	return &CloseError{Code: CloseInvalidUTF8, Reason: "text is not UTF-8"}
}
