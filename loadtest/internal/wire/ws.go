package wire

import (
	"encoding/binary"
	"errors"
)

// The opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	OpText         = 0x1
	OpClose        = 0x8
	OpPing         = 0x9
	OpPong         = 0xA
)

// WS reads a server's frames. The zero value is ready.
type WS struct {
	pending []byte // an incomplete frame
	message []byte // the fragments of a message so far
	begun   bool   // a message is in fragments
}

var errFrame = errors.New("broken frame")

// Partial reports whether a frame or message was begun and not ended.
func (w *WS) Partial() bool { return len(w.pending) > 0 || w.begun }

// Reset makes w as new, with its buffers kept.
func (w *WS) Reset() { *w = WS{pending: w.pending[:0], message: w.message[:0]} }

// Feed takes what was read next and calls take for each text message and each
// control frame it completes; payload is valid during the call only. take may
// return false to stop; then the rest of b is dropped.
func (w *WS) Feed(b []byte, take func(op byte, payload []byte) bool) error {
	if len(w.pending) > 0 {
		had := len(w.pending)
		w.pending = append(w.pending, b...)
		n, from, err := frameEnd(w.pending)
		if err != nil || n == 0 {
			return err
		}
		b = b[n-had:]
		frame := w.pending[:n]
		w.pending = w.pending[:0]
		if more, err := w.frame(frame[0], frame[from:n], take); err != nil || !more {
			return err
		}
	}
	for {
		n, from, err := frameEnd(b)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if more, err := w.frame(b[0], b[from:n], take); err != nil || !more {
			return err
		}
		b = b[n:]
	}
	w.pending = append(w.pending, b...)
	return nil
}

// frameEnd returns where the frame at the beginning of b ends and its payload
// begins; 0 if b ends before it does.
func frameEnd(b []byte) (n, from int, err error) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	if b[0]&0x70 != 0 || b[1]&0x80 != 0 { // reserved bits, or masked by a server
		return 0, 0, errFrame
	}
	if b[0]&0x08 != 0 && b[1] > 125 { // a control frame
		return 0, 0, errFrame
	}
	size, from := uint64(b[1]), 2
	switch size {
	case 126:
		if from = 4; len(b) < from {
			return 0, 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if from = 10; len(b) < from {
			return 0, 0, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
	}
	if size > MaxUnit {
		return 0, 0, errLong
	}
	if n = from + int(size); n > len(b) {
		return 0, 0, nil
	}
	return n, from, nil
}

func (w *WS) frame(first byte, payload []byte, take func(byte, []byte) bool) (bool, error) {
	final, op := first&0x80 != 0, first&0x0f
	switch op {
	case OpClose, OpPing, OpPong:
		if !final {
			return false, errFrame
		}
		return take(op, payload), nil
	case OpText:
		if w.begun {
			return false, errFrame
		}
		if final {
			return take(op, payload), nil
		}
		w.begun, w.message = true, append(w.message[:0], payload...)
		return true, nil
	case opContinuation:
		if !w.begun {
			return false, errFrame
		}
		w.message = append(w.message, payload...)
		if len(w.message) > MaxUnit {
			return false, errLong
		}
		if !final {
			return true, nil
		}
		w.begun = false
		return take(OpText, w.message), nil
	}
	return false, errFrame // binary, or unknown
}

// AppendFrame appends a client's frame with a mask of zeros, which a server
// has to take like any other.
func AppendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	default:
		dst = append(dst, 0x80|126, byte(n>>8), byte(n))
	}
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, payload...)
}
