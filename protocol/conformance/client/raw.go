package client

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Exchange sends raw bytes on a connection of its own and reads one answer.
// method is that of the request, for the rules about bodies.
func (c *Client) Exchange(method, raw string) (*http.Response, []byte, error) {
	conn, err := net.DialTimeout("tcp", c.host(), Patience)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(Patience))
	if _, err := io.WriteString(conn, raw); err != nil {
		return nil, nil, err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

// RawSocket is a WebSocket that does only what it is told: it answers no ping
// and may break the protocol.
type RawSocket struct {
	Response *http.Response

	conn net.Conn
	in   *bufio.Reader
}

// Opcodes of frames (RFC 6455, section 5.2).
const (
	OpContinuation = 0
	OpText         = 1
	OpBinary       = 2
	OpClose        = 8
	OpPing         = 9
	OpPong         = 10
)

// DialRaw upgrades a connection; header adds to the handshake's. after is sent
// in the same packet as the handshake.
func (c *Client) DialRaw(t testing.TB, header http.Header, after []byte) *RawSocket {
	t.Helper()
	conn, err := net.DialTimeout("tcp", c.host(), Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var head strings.Builder
	fmt.Fprintf(&head, "GET /api/v1/tasks/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", c.host())
	if c.Subject != "" {
		fmt.Fprintf(&head, "Authorization: Bearer %s\r\n", c.Subject)
	}
	_ = header.Write(&head) // a builder takes everything
	head.WriteString("\r\n")
	_ = conn.SetDeadline(time.Now().Add(Patience))
	if _, err := conn.Write(append([]byte(head.String()), after...)); err != nil {
		t.Fatal(err)
	}
	s := &RawSocket{conn: conn, in: bufio.NewReader(conn)}
	if s.Response, err = http.ReadResponse(s.in, &http.Request{Method: http.MethodGet}); err != nil {
		t.Fatal(err)
	}
	return s
}

// MaskedFrame builds one masked frame.
func MaskedFrame(fin bool, opcode byte, payload string) []byte {
	f := []byte{opcode, 0x80}
	if fin {
		f[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		f[1] |= byte(n)
	case n < 1<<16:
		f[1] |= 126
		f = binary.BigEndian.AppendUint16(f, uint16(n))
	default:
		f[1] |= 127
		f = binary.BigEndian.AppendUint64(f, uint64(n))
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	f = append(f, mask[:]...)
	for i := range len(payload) {
		f = append(f, payload[i]^mask[i%4])
	}
	return f
}

// Write sends bytes as they are.
func (s *RawSocket) Write(p []byte) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(Patience))
	_, err := s.conn.Write(p)
	return err
}

// Read returns the next frame. Whatever a server must not send is an error:
// a mask, reserved bits, a fragment, an unknown opcode.
func (s *RawSocket) Read(patience time.Duration) (opcode byte, payload []byte, err error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	var head [2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("a frame that begins with %x", head)
	}
	opcode = head[0] & 0xf
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(s.in, b[:]); err != nil {
			return 0, nil, err
		}
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(s.in, b[:]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(b[:])
	}
	if n > 16<<20 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		return 0, nil, err
	}
	switch opcode {
	case OpText, OpClose, OpPing, OpPong:
		return opcode, payload, nil
	}
	return 0, nil, fmt.Errorf("a frame with opcode %d", opcode)
}

// CloseCode reads on until the server closes and returns the code of its close
// frame, 0 for a connection that ended without one.
func (s *RawSocket) CloseCode(patience time.Duration) (int, error) {
	deadline := time.Now().Add(patience)
	for {
		opcode, payload, err := s.Read(time.Until(deadline))
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return 0, fmt.Errorf("still open: %w", err)
		case err != nil: // ended without one
			return 0, nil //nolint:nilerr // that is the answer
		case opcode != OpClose:
			continue
		case len(payload) < 2:
			return 1005, nil
		}
		code := int(binary.BigEndian.Uint16(payload))
		return code, nil
	}
}

// AnswerClose answers a close frame and returns how long the server then takes
// to end the connection. Nothing may come before that end.
func (s *RawSocket) AnswerClose(code int) (time.Duration, error) {
	began := time.Now()
	if err := s.Write(MaskedFrame(true, OpClose, string([]byte{byte(code >> 8), byte(code)}))); err != nil {
		return 0, err
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(Patience))
	n, err := io.Copy(io.Discard, s.in)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return 0, fmt.Errorf("after close %d the connection stays open", code)
	}
	if n > 0 {
		return 0, fmt.Errorf("%d bytes after the close frame", n)
	}
	return time.Since(began), nil
}

// HalfClose sends a FIN and goes on reading.
func (s *RawSocket) HalfClose() error {
	tcp, ok := s.conn.(*net.TCPConn)
	if !ok {
		return errors.New("not TCP")
	}
	return tcp.CloseWrite()
}
