package socket

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Out of descriptors Adopt says so and leaves the connection alone.
func TestOutOfDescriptors(t *testing.T) {
	g := newTestGroup(t, Options{})
	server, client := tcpPair(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	free, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(free)
	low := old
	low.Cur = uint64(free) // what is open stays usable
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	_, adoptErr := g.Adopt(server, []byte("x"), newRecorder(t))
	_, groupErr := NewGroup(Options{})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(adoptErr, unix.EMFILE) {
		t.Errorf("Adopt: %v", adoptErr)
	}
	if !errors.Is(groupErr, unix.EMFILE) {
		t.Errorf("NewGroup: %v", groupErr)
	}
	if n := g.Len(); n != 0 {
		t.Errorf("Len is %d", n)
	}
	_, _ = client.Write([]byte("still"))
	if got := mustRead(t, server, 5); string(got) != "still" {
		t.Fatalf("got %q", got)
	}
	r := newRecorder(t)
	adopt(t, g, server, nil, r)
	_, _ = client.Write([]byte("and now"))
	r.waitBytes("and now")
}

// The duplicate lives on when the original is closed, and its end is told to
// the peer when the original is not.
func TestOriginalAndDuplicate(t *testing.T) {
	g := newTestGroup(t, Options{})
	server, client := tcpPair(t)
	r := newRecorder(t)
	s, err := g.Adopt(server, nil, r)
	if err != nil {
		t.Fatal(err)
	}
	if s.fast.fd < 3 {
		t.Errorf("descriptor %d", s.fast.fd)
	}
	if flags, err := unix.FcntlInt(uintptr(s.fast.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("a child would inherit it: %v", err)
	}
	if flags, err := unix.FcntlInt(uintptr(s.fast.fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("it blocks: %v", err)
	}
	s.Close() // while server is open
	if _, err := readEnd(t, client); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	if _, err := g.Adopt(server, nil, r); err == nil {
		t.Error("a closed connection was adopted")
	}
}

// An event that was fetched before its socket closed is not the next one's.
func TestStaleEvents(t *testing.T) {
	g := newTestGroup(t, Options{Loops: 1})
	l := g.loops[0]
	find := func(place, generation uint32) *Socket {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.find(&unix.EpollEvent{Fd: int32(place), Pad: int32(generation)})
	}
	server, _ := tcpPair(t)
	first := adopt(t, g, server, nil, newRecorder(t))
	place := first.fast.slot
	l.mu.Lock()
	generation := l.slots[place].generation
	l.mu.Unlock()
	if find(place, generation) != first {
		t.Fatal("the socket is not where its events say")
	}
	first.Close()
	if find(place, generation) != nil {
		t.Fatal("a closed socket has events")
	}
	server, _ = tcpPair(t)
	second := adopt(t, g, server, nil, newRecorder(t))
	if second.fast.slot != place {
		t.Fatal("the slot was not used again")
	}
	if find(place, generation) != nil || find(place, generation+1) != second {
		t.Fatal("the next socket hears the last one's events")
	}
}

// If a loop cannot watch any more, its sockets hear of it.
func TestALoopThatFails(t *testing.T) {
	g := newTestGroup(t, Options{Loops: 1})
	server, client := tcpPair(t)
	r := newRecorder(t)
	s := adopt(t, g, server, nil, r)
	idle, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	// Replacing what epfd stands for is what a stray close elsewhere does.
	if err := unix.Dup3(int(idle.Fd()), g.loops[0].epfd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	g.loops[0].wake()
	g.loops[0].wake()
	if err := r.waitHangup(); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("Hangup says %v", err)
	}
	waitDone(t, s)
	if _, err := readEnd(t, client); err != nil {
		t.Fatal(err)
	}
	server, _ = tcpPair(t)
	if _, err := g.Adopt(server, nil, r); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("Adopt: %v", err)
	}
}
