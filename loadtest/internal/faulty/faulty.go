// Package faulty is a server for tests of the load tool: it speaks the
// protocol on real sockets and breaks one of its promises, as it is told. What
// it does to a client is in the name of the fault.
package faulty

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is what the server does wrong, at the event in the middle.
type Fault string

// The faults, and the things that look like one and are none.
const (
	None         Fault = "none"
	Drop         Fault = "drop"          // leaves the event out
	Repeat       Fault = "repeat"        // sends it twice
	Swap         Fault = "swap"          // sends it after the next one
	OtherText    Fault = "other-text"    // with another text of the same length
	ShortText    Fault = "short-text"    // with a shorter text
	OtherID      Fault = "other-id"      // SSE: with an id that is not the event's
	OtherTask    Fault = "other-task"    // of another task
	BadJSON      Fault = "bad-json"      // cut off within its JSON
	NotUTF8      Fault = "not-utf8"      // with a byte that is none
	TimeBack     Fault = "time-back"     // with an id whose time goes back
	AfterEnd     Fault = "after-end"     // sends one more after the terminal event
	EarlyEnd     Fault = "early-end"     // ends cleanly there
	SilentTrim   Fault = "silent-trim"   // begins there, and does not say so
	LyingGap     Fault = "lying-gap"     // announces a gap, and begins elsewhere
	NoEnd        Fault = "no-end"        // says nothing from there on
	Refuse       Fault = "refuse"        // 401, close 1008
	BrokenFrame  Fault = "broken-frame"  // a chunk or frame that is none
	OKGap        Fault = "ok-gap"        // announces a gap, truly
	OKCut        Fault = "ok-cut"        // cuts there, and goes on at the cursor
	OKRepeat     Fault = "ok-repeat"     // cuts there, and goes on a little before the cursor
	OKBusy       Fault = "ok-busy"       // 503 for the first connections
	OKCutAtEnd   Fault = "ok-cut-at-end" // cuts behind the terminal event; then 204, 1000
	OKFragments  Fault = "ok-fragments"  // WebSocket: in fragments, with a ping between
	OKHeartbeats Fault = "ok-heartbeats" // with heartbeats, comments and notices between
	OKAhead      Fault = "ok-ahead"      // announces that the log went back
	OKPlain      Fault = "ok-plain"      // SSE: not chunked, to the end of the connection
	OKKeyOrder   Fault = "ok-key-order"  // events with their keys in another order
)

// Config of a server.
type Config struct {
	Fault Fault
	// Token is what requests must bear. Defaults to "load".
	Token string
	// Stutter writes in pieces of a few bytes.
	Stutter bool
}

// Server is a running server.
type Server struct {
	cfg      Config
	listener net.Listener
	life     context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex
	tasks map[string]*task
	conns map[net.Conn]bool
	tried int
	pongs int
}

type task struct {
	id       string
	count    int
	size     int
	start    time.Time
	interval time.Duration
}

// New starts a server on a free loopback port.
func New(cfg Config) (*Server, error) {
	if cfg.Token == "" {
		cfg.Token = "load"
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, listener: listener, tasks: map[string]*task{}, conns: map[net.Conn]bool{}}
	s.life, s.stop = context.WithCancel(context.Background())
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

// URL is where it serves.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Addr is its address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Pongs is how many pongs clients have sent.
func (s *Server) Pongs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pongs
}

// Close ends it and all connections.
func (s *Server) Close() {
	s.stop()
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Create makes a task as a POST does.
func (s *Server) Create(count, size int, interval, delay time.Duration) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id = fmt.Sprintf("faulty%016d", len(s.tasks)+1)
	s.tasks[id] = &task{id: id, count: count, size: size, interval: interval, start: time.Now().Add(delay)}
	return id
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.serve(conn)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			_ = conn.Close()
		}()
	}
}

type createRequest struct {
	Input struct {
		Count        int `json:"count"`
		IntervalMs   int `json:"intervalMs"`
		Size         int `json:"size"`
		StartDelayMs int `json:"startDelayMs"`
	} `json:"input"`
}

func (s *Server) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
		switch {
		case req.Method == http.MethodPost:
			var in createRequest
			if err := json.NewDecoder(req.Body).Decode(&in); err != nil {
				return
			}
			id := s.Create(in.Input.Count, in.Input.Size, time.Duration(in.Input.IntervalMs)*time.Millisecond, time.Duration(in.Input.StartDelayMs)*time.Millisecond)
			answer(conn, 201, fmt.Sprintf(`{"taskId":%q}`, id))
		case req.Header.Get("Authorization") != "Bearer "+s.cfg.Token:
			answer(conn, 401, `{}`)
		case s.cfg.Fault == Refuse && req.Header.Get("Upgrade") == "":
			answer(conn, 401, `{}`)
			return
		case s.busy():
			answer(conn, 503, `{}`)
			return
		case req.Header.Get("Upgrade") != "":
			s.webSocket(conn, r, req)
			return
		case len(parts) >= 3:
			s.sse(conn, req, parts[len(parts)-3])
			return
		default:
			answer(conn, 404, `{}`)
		}
	}
}

func (s *Server) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried++
	return s.cfg.Fault == OKBusy && s.tried <= 3
}

func answer(w io.Writer, status int, body string) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), len(body), body)
}

func (s *Server) task(id string) *task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[id]
}

// framing is how a transport writes.
type framing struct {
	event  func(id, body string)
	notice func(name, extra string) // extra keys of a heartbeat
	noise  func()
	broken func()
	end    func()
	// partial begins something.
	partial func()
}

var errCut = errors.New("cut")

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
	chunk("retry: 10\n: connected\n\n")
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
			chunk(": heartbeat\n\n")
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

func (s *Server) webSocket(conn net.Conn, r *bufio.Reader, req *http.Request) {
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455
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

func ordinal(id string) int {
	_, after, _ := strings.Cut(id, "-")
	n, _ := strconv.Atoi(after)
	return n
}

func (s *Server) writer(conn net.Conn) func(string) {
	return func(text string) {
		if !s.cfg.Stutter {
			_, _ = io.WriteString(conn, text)
			return
		}
		for i := 0; len(text) > 0; i++ {
			n := min(1+(i*5)%13, len(text))
			_, _ = io.WriteString(conn, text[:n])
			text = text[n:]
		}
	}
}

const passage = "A task is an ordered log of events, and everything else is a way to write to that log or to read it. "

// play sends a task's log from a cursor on.
func (s *Server) play(t *task, cursor int, f framing) {
	last, fault := t.count+2, s.cfg.Fault
	middle := 2 + t.count/2
	resumed := cursor > 0
	text := strings.Repeat(passage, 2+t.size/len(passage))
	send := func(n int, size int, change func(id, body string) (string, string)) {
		at := t.start.Add(time.Duration(max(n-2, 0)) * t.interval)
		kind := "TASK_MESSAGE"
		var payload string
		from := (n - 2) * t.size % len(passage)
		switch n {
		case 1:
			kind, payload = "TASK_STARTED", `{}`
		case last:
			kind, payload = "TASK_COMPLETED", fmt.Sprintf(`{"result":{"tokens":%d}}`, t.count)
		default:
			payload = `{"message":"` + text[max(from, 0):][:size] + `"}`
		}
		id := fmt.Sprintf("%d-%d", at.UnixMilli(), n)
		created := at.UTC().Format("2006-01-02T15:04:05.000000Z")
		body := fmt.Sprintf(`{"type":%q,"taskId":%q,"eventId":%q,"createdAt":%q,"payload":%s}`, kind, t.id, id, created, payload)
		if fault == OKKeyOrder && kind == "TASK_MESSAGE" && n%2 == 0 {
			body = fmt.Sprintf(`{"type":%q, "payload":%s, "createdAt":%q, "eventId":%q, "taskId":%q}`, kind, payload, created, id, t.id)
		}
		if change != nil {
			id, body = change(id, body)
		}
		f.event(id, body)
	}
	if fault == SilentTrim && !resumed {
		cursor = middle
	}
	if fault == OKRepeat && resumed {
		cursor -= 3
	}
	if (fault == OKGap || fault == LyingGap) && !resumed {
		first := middle
		if fault == LyingGap {
			first = middle + 1
		}
		f.notice("gap", fmt.Sprintf(`,"gap":{"reason":"trimmed","afterEventId":null,"firstEventId":"1-%d"}`, first))
		cursor = middle - 1
	}
	for n := cursor + 1; n <= last; n++ {
		wait := time.NewTimer(time.Until(t.start.Add(time.Duration(max(n-2, 0)) * t.interval)))
		select {
		case <-s.life.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		if fault == OKHeartbeats {
			f.noise()
		}
		if n == middle {
			switch fault {
			case Drop:
				continue
			case Repeat:
				send(n, t.size, nil)
			case Swap:
				send(n+1, t.size, nil)
				send(n, t.size, nil)
				n++
				continue
			case OtherText:
				send(n, t.size, func(id, body string) (string, string) {
					return id, strings.Replace(body, `"message":"`, `"message":"#`, 1)[:len(body)-2] + `"}}`[1:]
				})
				continue
			case ShortText:
				send(n, t.size-1, nil)
				continue
			case OtherID:
				send(n, t.size, func(id, body string) (string, string) { return id + "0", body })
				continue
			case OtherTask:
				send(n, t.size, func(id, body string) (string, string) {
					return id, strings.Replace(body, t.id, "x"+t.id[1:], 1)
				})
				continue
			case BadJSON:
				send(n, t.size, func(id, body string) (string, string) { return id, body[:len(body)-1] })
				continue
			case NotUTF8:
				send(n, t.size, func(id, body string) (string, string) {
					return id, string(bytes.Replace([]byte(body), []byte(`message":"`), []byte("message\":\"\xff"), 1))
				})
				continue
			case TimeBack:
				send(n, t.size, func(id, body string) (string, string) {
					back := fmt.Sprintf("1000-%d", n)
					return back, strings.Replace(body, id, back, 1)
				})
				continue
			case EarlyEnd:
				f.end()
				return
			case NoEnd:
				<-s.life.Done()
				return
			case BrokenFrame:
				f.broken()
				return
			case OKCut, OKRepeat:
				if !resumed {
					f.partial()
					return
				}
			case OKAhead:
				if !resumed {
					f.notice("gap", fmt.Sprintf(`,"gap":{"reason":"ahead","afterEventId":"1-%d","firstEventId":"1-%d"}`, n-3, n-2))
					send(n-2, t.size, nil)
					send(n-1, t.size, nil)
				}
			}
		}
		send(n, t.size, nil)
	}
	if fault == AfterEnd {
		f.event("9999999999999-"+strconv.Itoa(last+1), fmt.Sprintf(`{"type":"TASK_STARTED","taskId":%q,"eventId":"9999999999999-%d","createdAt":"2026-01-01T00:00:00.000000Z","payload":{}}`, t.id, last+1))
	}
	if fault == OKCutAtEnd && !resumed {
		return
	}
	f.end()
}

// frame is a server's frame.
func frame(op byte, payload string) string {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = append(b, 126, byte(n>>8), byte(n)) //nolint:gosec // below 1<<16
	default:
		b = append(b, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)) //nolint:gosec // as the frame wants it
	}
	return string(b) + payload
}

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
