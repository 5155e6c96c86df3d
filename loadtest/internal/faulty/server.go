// Package faulty is a server for tests of the load tool: it speaks the
// protocol on real sockets and breaks one of its promises, as it is told. What
// it does to a client is in the name of the fault.
package faulty

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
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
