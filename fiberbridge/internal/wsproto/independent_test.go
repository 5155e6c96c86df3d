package wsproto

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// dialIndependent returns a client of another WebSocket implementation and the
// server's end of its connection, behind the handshake.
func dialIndependent(t testing.TB) (*websocket.Conn, net.Conn) {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	shaken := make(chan error, 1)
	go func() {
		req, err := http.ReadRequest(bufio.NewReader(server))
		if err != nil {
			shaken <- err
			return
		}
		sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		_, err = fmt.Fprintf(server, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		shaken <- err
	}()
	c, _, err := websocket.Dial(t.Context(), "ws://example", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return client, nil },
		DisableKeepAlives: true,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(-1)
	return c, server
}

// FuzzFramesForClients: whatever is appended, a client of another
// implementation reads exactly that.
func FuzzFramesForClients(f *testing.F) {
	f.Add("", "", "", uint16(1000), "")
	f.Add("hello", strings.Repeat("x", 125), "p", uint16(1008), "bad cursor")
	f.Add(strings.Repeat("é", 63), strings.Repeat("y", 65535), strings.Repeat("p", 130), uint16(3000), strings.Repeat("é", 100))
	f.Add("\x00\r\n\r\n", strings.Repeat("z", 65536), "\x89\x00", uint16(1005), "\xff\xfe")
	f.Add("a", "b", "c", uint16(4999), strings.Repeat("x", 122)+"€")
	f.Fuzz(func(t *testing.T, first, second, control string, code uint16, reason string) {
		first, second = strings.ToValidUTF8(first, "?"), strings.ToValidUTF8(second, "?")
		c, server := dialIndependent(t)
		defer c.CloseNow()
		go func() { // pongs, and the answer to the close frame
			buf := make([]byte, 512)
			for {
				if _, err := server.Read(buf); err != nil {
					return
				}
			}
		}()
		go func() {
			b := AppendText(nil, []byte(first))
			b = AppendPing(b, []byte(control))
			b = AppendPong(b, []byte(control))
			b = AppendText(b, []byte(second))
			b = AppendClose(b, int(code), reason)
			_, _ = server.Write(b)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, want := range []string{first, second} {
			kind, got, err := c.Read(ctx)
			if err != nil || kind != websocket.MessageText || string(got) != want {
				t.Fatalf("read %v %.40q %v, want %.40q", kind, got, err, want)
			}
		}
		_, _, err := c.Read(ctx)
		var end websocket.CloseError
		if !errors.As(err, &end) {
			t.Fatalf("no close frame: %v", err)
		}
		if !sendable(int(code)) {
			if end.Code != websocket.StatusNoStatusRcvd || end.Reason != "" {
				t.Fatalf("close frame is %v", end)
			}
			return
		}
		reason = strings.ToValidUTF8(reason, "\uFFFD")
		if int(end.Code) != int(code) || !strings.HasPrefix(reason, end.Reason) || !utf8.ValidString(end.Reason) ||
			len(end.Reason) < min(len(reason), maxReason-3) {
			t.Fatalf("close frame is %v, of %q", end, reason)
		}
	})
}

// The Reader takes what a client of another implementation sends.
func TestReadsAnIndependentClient(t *testing.T) {
	c, server := dialIndependent(t)
	defer c.CloseNow()
	sent := []string{"", "a", strings.Repeat("é", 1000), strings.Repeat("x", 70000)}
	go func() {
		for _, s := range sent {
			_ = c.Write(t.Context(), websocket.MessageText, []byte(s))
		}
		w, err := c.Writer(t.Context(), websocket.MessageText) // in fragments
		if err == nil {
			for range 3 {
				_, _ = w.Write([]byte(strings.Repeat("part", 2000)))
			}
			_ = w.Close()
		}
		_ = c.Close(websocket.StatusNormalClosure, "bye")
	}()
	want := []string{}
	for _, s := range append(sent, strings.Repeat("part", 6000)) {
		want = append(want, fmt.Sprintf("text %q", s))
	}
	want = append(want, `close 1000 "bye"`)

	h := &heard{t: t}
	r := &Reader{MaxMessage: 1 << 20}
	buf := make([]byte, 1777)
	for !r.over {
		n, err := server.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		r.Feed(buf[:n], h)
	}
	if fmt.Sprint(h.lines) != fmt.Sprint(want) {
		t.Fatalf("read %.300q", h.lines)
	}
	go func() { _, _ = server.Write(AppendClose(nil, CloseNormal, "")) }()
}
