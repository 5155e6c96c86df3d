//go:build linux

// Package bare is the yardstick: a server that speaks just enough of the
// protocol for the load tool's client, and delivers each event by one bare
// write(2) to each socket in a plain loop. It has no log and no replay, notices
// no disconnect, and does nothing between two writes. What a real server costs
// above it is the price of being one.
package bare

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Serve listens on a free loopback port, says so on out as the demo host does,
// and serves until ctx ends.
func Serve(ctx context.Context, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &server{tasks: map[string]*task{}}
	if _, err := fmt.Fprintf(out, "listening on http://%s\n", listener.Addr()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go s.serve(conn)
	}
}

type server struct {
	mu    sync.Mutex
	tasks map[string]*task
	made  int
}

// task is what the tokens task of the demo host is, as far as its subscribers
// can see.
type task struct {
	id          string
	count, size int
	interval    time.Duration
	start       time.Time

	mu  sync.Mutex
	sse []int32 // sockets
	ws  []int32
}

type createRequest struct {
	Input struct {
		Count        int `json:"count"`
		IntervalMs   int `json:"intervalMs"`
		Size         int `json:"size"`
		StartDelayMs int `json:"startDelayMs"`
	} `json:"input"`
}

// serve answers requests until one of them becomes a stream.
func (s *server) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReaderSize(conn, 4096)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch {
		case req.Method == http.MethodPost:
			var in createRequest
			if json.NewDecoder(req.Body).Decode(&in) != nil {
				return
			}
			body := fmt.Sprintf(`{"taskId":%q}`, s.create(in))
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		case req.Header.Get("Upgrade") != "":
			s.follow(conn, r, req, true)
			return
		default:
			s.follow(conn, r, req, false)
			return
		}
	}
}

func (s *server) create(in createRequest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	t := &task{
		id: fmt.Sprintf("bare%016d", s.made), count: in.Input.Count, size: in.Input.Size,
		interval: time.Duration(in.Input.IntervalMs) * time.Millisecond,
		start:    time.Now().Add(time.Duration(in.Input.StartDelayMs) * time.Millisecond),
	}
	s.tasks[t.id] = t
	go t.run()
	return t.id
}

func (s *server) follow(conn net.Conn, r *bufio.Reader, req *http.Request, ws bool) {
	var id string
	if ws {
		sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		var err error
		if id, err = subscription(r); err != nil {
			return
		}
		confirmed := fmt.Sprintf(`{"type":"SUBSCRIPTION_CONFIRMED","taskId":%q,"replayStartedAfterEventId":null,"live":true}`, id)
		_, _ = conn.Write(appendFrame(nil, 1, []byte(confirmed)))
	} else {
		parts := strings.Split(req.URL.Path, "/")
		if len(parts) < 3 {
			return
		}
		id = parts[len(parts)-3]
		opening := "retry: 2000\n: connected\n"
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n%x\r\n%s\r\n", len(opening), opening)
	}
	fd, err := duplicate(conn)
	if err != nil {
		return
	}
	s.mu.Lock()
	t := s.tasks[id]
	s.mu.Unlock()
	if t == nil {
		_ = unix.Close(int(fd))
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ws {
		t.ws = append(t.ws, fd)
	} else {
		t.sse = append(t.sse, fd)
	}
}

// subscription reads the frame that a WebSocket begins with.
func subscription(r *bufio.Reader) (taskID string, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	size := int(head[1] & 0x7f)
	if size > 125 || head[1]&0x80 == 0 {
		return "", errors.New("not the frame that was expected")
	}
	body := make([]byte, 4+size)
	if _, err := io.ReadFull(r, body); err != nil {
		return "", err
	}
	for i := range body[4:] {
		body[4+i] ^= body[i%4]
	}
	var frame struct {
		TaskID string `json:"taskId"`
	}
	err = json.Unmarshal(body[4:], &frame)
	return frame.TaskID, err
}

func duplicate(conn net.Conn) (int32, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, os.ErrInvalid
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	failed := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	return int32(fd), errors.Join(failed, err)
}

// run emits as the tokens task does.
func (t *task) run() {
	time.Sleep(time.Until(t.start))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t.mu.Lock()
	sse, ws := t.sse, t.ws
	t.mu.Unlock()
	var body, frame []byte
	deliver := func(ordinal int, kind string, payload []byte) {
		now := time.Now().UTC()
		id := fmt.Sprintf("%d-%d", now.UnixMilli(), ordinal)
		body = fmt.Appendf(body[:0], `{"type":%q,"taskId":%q,"eventId":%q,"createdAt":%q,"payload":%s}`,
			kind, t.id, id, now.Format("2006-01-02T15:04:05.000000Z"), payload)
		if len(sse) > 0 {
			block := fmt.Sprintf("id: %s\ndata: %s\n\n", id, body)
			frame = fmt.Appendf(frame[:0], "%x\r\n%s\r\n", len(block), block)
			toAll(sse, frame)
		}
		if len(ws) > 0 {
			frame = appendFrame(frame[:0], 1, body)
			toAll(ws, frame)
		}
	}
	deliver(1, "TASK_STARTED", []byte("{}"))
	const passage = "A task is an ordered log of events, and everything else is a way to write to that log or to read it. "
	text := strings.Repeat(passage, 1+(len(passage)+t.size)/len(passage))
	start := time.Now()
	for i := range t.count {
		time.Sleep(time.Until(start.Add(time.Duration(i) * t.interval)))
		from := i * t.size % len(passage)
		deliver(i+2, "TASK_MESSAGE", []byte(`{"message":"`+text[from:from+t.size]+`"}`))
	}
	deliver(t.count+2, "TASK_COMPLETED", fmt.Appendf(nil, `{"result":{"tokens":%d}}`, t.count))
	toAll(sse, []byte("0\r\n\r\n"))
	toAll(ws, appendFrame(nil, 8, []byte{0x03, 0xe8}))
	for _, fd := range append(sse, ws...) {
		_ = unix.Close(int(fd))
	}
}

// toAll is the yardstick itself.
func toAll(sockets []int32, b []byte) {
	for _, fd := range sockets {
		rest := b
		for len(rest) > 0 {
			n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest)))
			switch errno {
			case 0:
				rest = rest[n:]
			case syscall.EAGAIN:
				_, _ = unix.Poll([]unix.PollFd{{Fd: fd, Events: unix.POLLOUT}}, 1000)
			case syscall.EINTR:
			default:
				rest = nil // gone
			}
		}
	}
}

func appendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, byte(n))
	case n < 1<<16:
		dst = append(dst, 126, byte(n>>8), byte(n))
	default:
		dst = append(dst, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, payload...)
}
