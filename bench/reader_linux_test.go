package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readerEnv makes this program's child the subscribers of a benchmark: in a
// process of their own, so that reading is nobody else's CPU time, and as cheap
// as reading gets, so that the server is what is measured.
const readerEnv = "TASKBRIDGE_BENCH_READER"

// crowdJob is what the subscribers are told: connect Count times, and say to
// each connection one of Hellos, in turn.
type crowdJob struct {
	Addr   string  `json:"addr"`
	Count  int     `json:"count"`
	Hellos []hello `json:"hellos"`
	// CPU is where to run, -1 for anywhere.
	CPU int `json:"cpu"`
}

// hello opens one subscription.
type hello struct {
	Request []byte `json:"request"`
	// Frame is sent after the answer's head.
	Frame []byte `json:"frame,omitempty"`
}

// The descriptors that the subscribers inherit.
const (
	boardFD = 3
	doneFD  = 4
)

// board is memory that both processes see. The server says how many deliveries
// it waits for; the subscribers count, and write a byte to a pipe when they have
// them all.
type board struct {
	target   atomic.Int64
	received atomic.Int64
	closed   atomic.Int64
}

func mapBoard(fd int) (*board, error) {
	mem, err := unix.Mmap(fd, 0, int(unsafe.Sizeof(board{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return (*board)(unsafe.Pointer(unsafe.SliceData(mem))), nil
}

// serveReaders is the child's side. It ends with its input.
func serveReaders(in io.Reader, out io.Writer) error {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	var j crowdJob
	if err := orders.Decode(&j); err != nil {
		return err
	}
	r, err := openReaders(j)
	if err != nil {
		return answers.Encode(report{Err: err.Error()})
	}
	if err := answers.Encode(report{}); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0) // the parent has gone, or wants us to go
	}()
	return r.run()
}

// readers are the connections, on one epoll.
type readers struct {
	board    *board
	epoll    int
	notified int64
	buf      []byte
}

func openReaders(j crowdJob) (*readers, error) {
	if j.CPU >= 0 {
		if err := runOn(j.CPU); err != nil {
			return nil, err
		}
	}
	addr, err := netip.ParseAddrPort(j.Addr)
	if err != nil {
		return nil, err
	}
	r := &readers{buf: make([]byte, 256<<10)}
	if r.board, err = mapBoard(boardFD); err != nil {
		return nil, err
	}
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	for i := range j.Count {
		if err := r.connect(addr, j.Hellos[i%len(j.Hellos)]); err != nil {
			return nil, fmt.Errorf("subscriber %d: %w", i, err)
		}
	}
	return r, nil
}

func (r *readers) connect(addr netip.AddrPort, h hello) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if _, err := unix.Write(fd, h.Request); err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	if err := r.head(fd); err != nil {
		return err
	}
	if len(h.Frame) > 0 {
		if _, err := unix.Write(fd, h.Frame); err != nil {
			return fmt.Errorf("write the frame: %w", err)
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// head reads an answer's head. What came with it is counted.
func (r *readers) head(fd int) error {
	var got []byte
	for {
		n, err := unix.Read(fd, r.buf)
		if err == unix.EINTR { // a signal of Go's scheduler; a socket with a time limit is not restarted
			continue
		}
		if err != nil || n == 0 {
			return fmt.Errorf("read the head: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		got = append(got, r.buf[:n]...)
		head, rest, ok := bytes.Cut(got, []byte("\r\n\r\n"))
		if !ok {
			continue
		}
		line, _, _ := strings.Cut(string(head), "\r\n")
		if !strings.HasPrefix(line, "HTTP/1.1 200 ") && !strings.HasPrefix(line, "HTTP/1.1 101 ") {
			return fmt.Errorf("the server answers %q", line)
		}
		return r.count(rest)
	}
}

// run reads until it is killed.
func (r *readers) run() error {
	events := make([]unix.EpollEvent, 512)
	for {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll: %w", err)
		}
		for i := range max(n, 0) {
			if err := r.read(int(events[i].Fd)); err != nil {
				return err
			}
		}
	}
}

func (r *readers) read(fd int) error {
	n, err := unix.Read(fd, r.buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil || n == 0:
		r.board.closed.Add(1)
		return unix.Close(fd)
	}
	return r.count(r.buf[:n])
}

func (r *readers) count(p []byte) error {
	got := r.board.received.Add(int64(bytes.Count(p, []byte{marker})))
	if target := r.board.target.Load(); got >= target && target > r.notified {
		r.notified = target
		if _, err := unix.Write(doneFD, []byte{1}); err != nil {
			return fmt.Errorf("tell of the end: %w", err)
		}
	}
	return nil
}
