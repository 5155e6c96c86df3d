package faulty

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

func (s *Server) sse(conn net.Conn, req *http.Request, taskID string) {
	t := s.task(taskID)
	if t == nil {
		answer(conn, 404, `{}`)
		return
	}
	cursor := ordinal(req.Header.Get("Last-Event-ID"))
	if cursor >= t.count+2 {
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		return
	}
	write := s.writer(conn)
	plain := s.cfg.Fault == OKPlain
	chunk := func(text string) {
		if plain {
			write(text)
			return
		}
		write(fmt.Sprintf("%X\r\n%s\r\n", len(text), text))
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
	if !plain {
		head += "Transfer-Encoding: chunked\r\n"
	}
	write(head + "\r\n")
	chunk("retry: 10\n: connected\n")
	heartbeat := func(extra string) string {
		return fmt.Sprintf(`{"type":"HEARTBEAT","taskId":%q,"eventId":"hb-1","createdAt":"2026-01-01T00:00:15.000000Z","payload":{"live":true%s}}`, taskID, extra)
	}
	s.play(t, cursor, framing{
		partial: func() { write("5\r") },
		event: func(id, body string) {
			if s.cfg.Stutter { // chunks need not be events
				text := "id: " + id + "\ndata: " + body + "\n\n"
				chunk(text[:7])
				chunk(text[7:])
				return
			}
			chunk("id: " + id + "\ndata: " + body + "\n\n")
		},
		notice: func(name, extra string) { chunk("event: " + name + "\ndata: " + heartbeat(extra) + "\n\n") },
		noise: func() {
			chunk(": heartbeat\n")
			chunk("data: " + heartbeat("") + "\n\n")
			chunk("retry: 20\nevent: unknown\ndata: " + heartbeat(`,"more":{"a":[1,"]"]}`) + "\n\n")
		},
		broken: func() { write("zz\r\n") },
		end: func() {
			if !plain {
				write("0\r\n\r\n")
			}
		},
	})
}
