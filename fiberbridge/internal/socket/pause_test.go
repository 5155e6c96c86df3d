package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// writeAll writes until p is gone or c takes no more.
func writeAll(c net.Conn, p []byte) (n int, err error) {
	_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	defer c.SetWriteDeadline(time.Time{})
	return c.Write(p)
}

// A peer that is not read is held back by TCP, and what it sent comes whole and
// in order when it is.
func TestPauseHoldsThePeerBack(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		conn, peer := tcpPair(t)
		r := newRecorder(t)
		s := adopt(t, g, conn, nil, r)
		s.Pause()
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB, more than buffers take
		n, err := writeAll(peer, sent)
		if err == nil {
			t.Fatal("a peer that is not read was never held back")
		}
		if read, _, _ := r.heard(); len(read) > portableBuffer {
			t.Errorf("%d bytes came while nothing was to be read", len(read))
		}
		s.Resume()
		m, err := peer.Write(sent[n:])
		if err != nil || n+m != len(sent) {
			t.Fatalf("%d bytes, %v", n+m, err)
		}
		r.wait("all bytes", func() bool { return r.bytes.Len() == len(sent) })
		if !bytes.Equal(r.bytes.Bytes(), sent) {
			t.Error("the bytes have changed")
		}
		s.Close()
	})
}

// Pausing after each piece and resuming from elsewhere, what was there before,
// during and after comes whole.
func TestPauseAgainAndAgain(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		conn, peer := tcpPair(t)
		r := newRecorder(t)
		var s *Socket
		var ready, resumes sync.WaitGroup
		ready.Add(1)
		r.readable = func([]byte) {
			ready.Wait()
			s.Pause()
			resumes.Go(s.Resume)
		}
		s = adopt(t, g, conn, []byte("first "), r)
		ready.Done()
		want := "first "
		for i := range 2000 {
			part := strings.Repeat(string(rune('a'+i%26)), i%97)
			want += part
			if _, err := peer.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		r.wait("all bytes", func() bool { return r.bytes.Len() == len(want) })
		if got, _, _ := r.heard(); got != want {
			t.Error("the bytes have changed")
		}
		resumes.Wait()
		s.Close()
		<-s.Done()
	})
}

// A peer that goes away is noticed though nobody reads it: at once on the fast
// path, on the portable one when it is written to or read again.
func TestPauseAndThePeerGoes(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		for _, reset := range []bool{false, true} {
			for _, before := range []bool{false, true} {
				conn, peer := tcpPair(t)
				r := newRecorder(t)
				s := adopt(t, g, conn, nil, r)
				s.Pause()
				if before { // no more than the buffers take: the FIN comes behind it
					_, _ = writeAll(peer, make([]byte, 30<<10))
				}
				if reset {
					_ = peer.SetLinger(0)
				}
				_ = peer.Close()
				if !s.Taken() {
					s.Resume()
				}
				if err := r.waitHangup(); err == nil || !reset && !errors.Is(err, io.EOF) && !before {
					t.Errorf("reset %v: %v", reset, err)
				}
				<-s.Done()
			}
		}
	})
}

// A pause ends with the socket, however it ends, and keeps no goroutine.
func TestPauseAndTheSocketEnds(t *testing.T) {
	for _, end := range []string{"close", "gracefully", "group"} {
		eachPath(t, Options{}, func(t *testing.T, g *Group) {
			conn, peer := tcpPair(t)
			r := newRecorder(t)
			s := adopt(t, g, conn, nil, r)
			s.Pause()
			if _, err := peer.Write([]byte("unread")); err != nil {
				t.Fatal(err)
			}
			switch end {
			case "close":
				s.Close()
			case "gracefully":
				if _, err := s.TryWrite([]byte("farewell")); err != nil {
					t.Fatal(err)
				}
				s.CloseGracefully(patience)
				all, err := io.ReadAll(peer)
				if string(all) != "farewell" || err != nil {
					t.Errorf("%q, %v: the unread bytes became a reset", all, err)
				}
				_ = peer.Close()
			case "group":
				closeGroup(t, g)
			}
			<-s.Done()
			s.Pause()
			s.Resume()
		})
	}
}

// Writing goes on in a pause, on a full socket too.
func TestPauseDoesNotHoldUpWrites(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		conn, peer := tcpPair(t)
		r := newRecorder(t)
		s := adopt(t, g, conn, nil, r)
		s.Pause()
		if _, err := peer.Write([]byte("unread")); err != nil {
			t.Fatal(err)
		}
		chunk := make([]byte, 1<<20)
		var sent int64
		for {
			n, err := s.TryWrite(chunk)
			if err != nil {
				t.Fatal(err)
			}
			sent += int64(n)
			if n < len(chunk) {
				break
			}
		}
		got := make(chan int64)
		go func() {
			n, _ := io.CopyN(io.Discard, peer, sent)
			got <- n
		}()
		r.wait("Writable", func() bool { return r.writable > 0 })
		if n := <-got; n != sent {
			t.Errorf("%d of %d bytes", n, sent)
		}
		if read, _, _ := r.heard(); read != "" && s.Taken() {
			t.Errorf("read %q", read)
		}
		s.Close()
		<-s.Done()
	})
}
