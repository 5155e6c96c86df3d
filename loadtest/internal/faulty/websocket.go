package faulty

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

func (s *Server) webSocket(conn net.Conn, r *bufio.Reader, req *http.Request) {
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	write := s.writer(conn)
	write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")
	_, body, err := clientFrame(r)
	if err != nil {
		return
	}
	if s.cfg.Fault == Refuse {
		write(frame(8, "\x03\xf0no"))
		return
	}
	var sub struct {
		TaskID      string `json:"taskId"`
		LastEventID string `json:"lastEventId"`
	}
	if err := json.Unmarshal(body, &sub); err != nil {
		return
	}
	t := s.task(sub.TaskID)
	if t == nil {
		write(frame(8, "\x03\xf0unknown task"))
		return
	}
	ended := make(chan struct{})
	go func() { // counts pongs, until the connection ends
		defer close(ended)
		for {
			op, _, err := clientFrame(r)
			if err != nil {
				return
			}
			if op == 0xA {
				s.mu.Lock()
				s.pongs++
				s.mu.Unlock()
			}
		}
	}()
	write(frame(1, fmt.Sprintf(`{"type":"SUBSCRIPTION_CONFIRMED","taskId":%q,"replayStartedAfterEventId":null,"live":true}`, t.id)))
	cursor := ordinal(sub.LastEventID)
	if cursor >= t.count+2 {
		write(frame(8, "\x03\xe8"))
		return
	}
	heartbeat := func(extra string) string {
		return fmt.Sprintf(`{"type":"HEARTBEAT","taskId":%q,"live":true%s}`, t.id, extra)
	}
	s.play(t, cursor, framing{
		partial: func() { write("\x81\x05h") },
		event: func(_, body string) {
			if s.cfg.Fault != OKFragments {
				write(frame(1, body))
				return
			}
			write("\x01" + frame(1, body[:10])[1:])
			write(frame(9, "hello"))
			write("\x00" + frame(0, body[10:20])[1:])
			write(frame(0, body[20:]))
		},
		notice: func(_, extra string) { write(frame(1, heartbeat(extra))) },
		noise: func() {
			write(frame(1, heartbeat("")))
			write(frame(9, ""))
		},
		broken: func() { write("\xf1\x00") },
		end: func() {
			write(frame(8, "\x03\xe8"))
			<-ended // closed with a pong unread, the frame would be lost to a reset
		},
	})
}

// frame is a server's frame.
func frame(op byte, payload string) string {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = append(b, 126, byte(n>>8), byte(n))
	default:
		b = append(b, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return string(b) + payload
}

var errCut = errors.New("cut")

func clientFrame(r *bufio.Reader) (op byte, body []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	size := int(head[1] & 0x7f)
	if head[1]&0x80 == 0 {
		return 0, nil, errCut
	}
	if size == 126 {
		more := make([]byte, 2)
		if _, err := io.ReadFull(r, more); err != nil {
			return 0, nil, err
		}
		size = int(more[0])<<8 | int(more[1])
	}
	body = make([]byte, 4+size)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, err
	}
	for i := range body[4:] {
		body[4+i] ^= body[i%4]
	}
	return head[0] & 0x0f, body[4:], nil
}
