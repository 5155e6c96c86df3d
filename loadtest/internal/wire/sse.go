package wire

import (
	"bytes"
	"errors"
)

// Block is one block of an event stream. Its slices are valid during the call
// only.
type Block struct {
	ID, Name, Data []byte
	// Retry is the retry: line's milliseconds, -1 without one.
	Retry int64
	// Comment says that it held nothing but comments.
	Comment bool
}

// SSE reads the body of an event-stream answer (WHATWG HTML, section 9.2), in
// chunks (RFC 9112, section 7.1) or to the end of the connection. The zero
// value reads chunks.
type SSE struct {
	// Plain says that the body is not chunked.
	Plain bool

	out     Block
	pending []byte // an incomplete block
	data    []byte // of a block with several data lines
	left    int    // of the current chunk
	state   uint8
	digits  uint8
}

// Where in a chunk the reader stands.
const (
	chunkSize    uint8 = iota // before or in its size
	chunkExt                  // behind the size, before the line's end
	chunkLF                   // at the line feed of the size's line
	chunkData                 // in its data
	chunkCR                   // at the end of the data
	chunkDataLF               //
	chunkLast                 // behind the last chunk's size: at the closing line
	chunkLastLF               //
	chunkTrailer              // in a trailer line
	chunkOver                 // everything was read
)

// MaxUnit is how long a block or a message may be.
const MaxUnit = 1 << 20

var (
	errChunk = errors.New("broken chunk")
	errAfter = errors.New("bytes after the last chunk")
	errLong  = errors.New("longer than anything the protocol allows")
)

// Ended reports whether the last chunk was read: a clean end.
func (s *SSE) Ended() bool { return s.state == chunkOver }

// Partial reports whether a block was begun and not ended. Comments and retry lines do
// not begin a block.
func (s *SSE) Partial() bool {
	rest := s.pending
	for {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		switch {
		case !whole:
			return len(line) > 0
		case !bytes.HasPrefix(line, []byte{':'}) && !bytes.HasPrefix(line, []byte("retry:")):
			return true
		}
		rest = after
	}
}

// Reset makes s as new, with its buffers kept.
func (s *SSE) Reset() { *s = SSE{pending: s.pending[:0], data: s.data[:0]} }

// Feed takes what was read next and calls take for each block it completes.
// After an error the stream is beyond reading. take may return false to stop;
// then the rest of b is dropped.
func (s *SSE) Feed(b []byte, take func(*Block) bool) error {
	if s.Plain {
		_, err := s.blocks(b, take)
		return err
	}
	for len(b) > 0 {
		switch s.state {
		case chunkData:
			n := min(s.left, len(b))
			more, err := s.blocks(b[:n], take)
			if err != nil || !more {
				return err
			}
			b = b[n:]
			if s.left -= n; s.left == 0 {
				s.state = chunkCR
			}
			continue
		case chunkOver:
			return errAfter
		}
		if err := s.frame(b[0]); err != nil {
			return err
		}
		b = b[1:]
	}
	return nil
}

// frame takes one byte of what stands between the data of two chunks.
func (s *SSE) frame(c byte) error {
	ok := true
	switch s.state {
	case chunkSize:
		switch d := hexDigit(c); {
		case d >= 0:
			s.left = s.left<<4 | d
			s.digits++
			ok = s.digits <= 7
		case c == '\r':
			s.state, ok = chunkLF, s.digits > 0
		case c == ';' || c == ' ' || c == '\t':
			s.state, ok = chunkExt, s.digits > 0
		default:
			ok = false
		}
	case chunkExt:
		if c == '\r' {
			s.state = chunkLF
		}
	case chunkLF:
		s.digits = 0
		if s.state = chunkData; s.left == 0 {
			s.state = chunkLast
		}
		ok = c == '\n'
	case chunkCR:
		s.state, ok = chunkDataLF, c == '\r'
	case chunkDataLF:
		s.state, ok = chunkSize, c == '\n'
	case chunkLast:
		if s.state = chunkTrailer; c == '\r' {
			s.state = chunkLastLF
		}
	case chunkTrailer:
		if c == '\n' {
			s.state = chunkLast
		}
	case chunkLastLF:
		s.state, ok = chunkOver, c == '\n'
	}
	if !ok {
		return errChunk
	}
	return nil
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// blocks takes bytes of the stream itself. A block that b holds as a whole is
// read where it is.
func (s *SSE) blocks(b []byte, take func(*Block) bool) (more bool, err error) {
	if len(s.pending) > 0 {
		had := len(s.pending)
		s.pending = append(s.pending, b...)
		// The blank line may lie across the seam.
		n := blockEnd(s.pending, max(had-2, 0))
		if n < 0 {
			return true, s.tooLong()
		}
		b = b[n-had:]
		block := s.pending[:n]
		s.pending = s.pending[:0]
		if more, err = s.block(block, take); err != nil || !more {
			return more, err
		}
	}
	for {
		n := blockEnd(b, 0)
		if n < 0 {
			break
		}
		if more, err = s.block(b[:n], take); err != nil || !more {
			return more, err
		}
		b = b[n:]
	}
	s.pending = append(s.pending, b...)
	return true, s.tooLong()
}

func (s *SSE) tooLong() error {
	if len(s.pending) > MaxUnit {
		return errLong
	}
	return nil
}

// blockEnd returns where the block in b ends, behind its blank line, or -1. It
// begins to look for line ends at from.
func blockEnd(b []byte, from int) int {
	for i := from; ; {
		lf := bytes.IndexByte(b[i:], '\n')
		if lf < 0 {
			return -1
		}
		i += lf + 1
		switch {
		case i == 1 || i == 2 && b[0] == '\r': // a blank line at the very beginning
			return i
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

func (s *SSE) block(b []byte, take func(*Block) bool) (bool, error) {
	out := &s.out // on the stack it would not stay: take may do anything with it
	*out = Block{Retry: -1}
	lines, fields := 0, 0
	for len(b) > 0 {
		lf := bytes.IndexByte(b, '\n')
		line := b[:lf]
		b = b[lf+1:]
		if len(line) > 0 && line[len(line)-1] == '\r' {
			line = line[:len(line)-1]
		}
		if len(line) == 0 || line[0] == ':' {
			continue
		}
		fields++
		name, value := line, []byte(nil)
		if colon := bytes.IndexByte(line, ':'); colon >= 0 {
			name, value = line[:colon], line[colon+1:]
			if len(value) > 0 && value[0] == ' ' {
				value = value[1:]
			}
		}
		switch string(name) {
		case "id":
			out.ID = value
		case "event":
			out.Name = value
		case "retry":
			if n, ok := digits(value); ok {
				out.Retry = int64(n)
			}
		case "data":
			if lines++; lines == 1 {
				out.Data = value
				continue
			}
			if lines == 2 {
				s.data = append(s.data[:0], out.Data...)
			}
			s.data = append(append(s.data, '\n'), value...)
			out.Data = s.data
		}
	}
	out.Comment = fields == 0
	return take(out), nil
}
