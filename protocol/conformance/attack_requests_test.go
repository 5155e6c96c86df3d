package conformance_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

// statuses sends raw and returns the statuses of all answers until the
// connection ends or is quiet.
func statuses(t *testing.T, base, raw string) (all []int) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), client.Patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(client.Patience))
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return all
		}
		_, _ = io.Copy(io.Discard, res.Body) // an error shows at the next answer
		_ = res.Body.Close()
		all = append(all, res.StatusCode)
		if res.StatusCode == http.StatusSwitchingProtocols || res.Close {
			return all
		}
		_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
	}
}

// Requests whose end two parsers could see in different places: refused, and
// what was hidden behind them is not answered.
func TestAttackSmuggling(t *testing.T) {
	c := connect(t)
	const hidden = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
	head := "POST " + tasks + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + c.Subject + "\r\n"
	for name, rest := range map[string]string{
		"two lengths":             fmt.Sprintf("Content-Length: 2\r\nContent-Length: %d\r\n\r\n{}%s", 2+len(hidden), hidden),
		"a list of lengths":       "Content-Length: 2, 2\r\n\r\n{}" + hidden,
		"a negative length":       "Content-Length: -2\r\n\r\n{}" + hidden,
		"a signed length":         "Content-Length: +2\r\n\r\n{}" + hidden,
		"a hexadecimal length":    "Content-Length: 0x2\r\n\r\n{}" + hidden,
		"a length of 20 digits":   "Content-Length: 99999999999999999999\r\n\r\n{}" + hidden,
		"a space before a colon":  "Content-Length : 2\r\n\r\n{}" + hidden,
		"an unknown coding":       "Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + hidden,
		"chunked is not the last": "Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + hidden,
		"two codings":             "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + hidden,
		"a negative chunk":        "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n" + hidden,
		"a chunk of 2^68":         "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n{}\r\n0\r\n\r\n" + hidden,
		"a chunk without its end": "Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n" + hidden,
	} {
		if got := statuses(t, c.Base, head+rest); len(got) != 1 || got[0] != http.StatusBadRequest {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A handshake that is not quite one is refused, and ends the connection.
func TestAttackHandshakes(t *testing.T) {
	c := connect(t)
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	head := "GET " + tasks + "/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer " + c.Subject + "\r\n"
	for name, rest := range map[string]string{
		"no key":         "\r\n",
		"a short key":    "Sec-WebSocket-Key: abc\r\n\r\n",
		"two keys":       key + key + "\r\n",
		"a body":         key + "Content-Length: 5\r\n\r\nhello",
		"a chunked body": key + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		if got := statuses(t, c.Base, head+rest); len(got) != 1 || got[0] != http.StatusBadRequest {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := statuses(t, c.Base, head+key+"\r\n"); len(got) != 1 || got[0] != http.StatusSwitchingProtocols {
		t.Errorf("a good one: %v", got)
	}
}

var cursorForm = regexp.MustCompile(`^([0-9]{1,20})(?:-([0-9]{1,20}))?$`)

// aCursor reports whether the contract takes s.
func aCursor(s string) bool {
	m := cursorForm.FindStringSubmatch(s)
	if m == nil {
		return s == ""
	}
	for _, n := range m[1:] {
		if _, err := strconv.ParseUint(n, 10, 64); n != "" && err != nil {
			return false
		}
	}
	return true
}

// Whatever stands where a cursor should: taken if it has the form, and
// otherwise the client's mistake, on each way in.
func TestAttackCursors(t *testing.T) {
	c := connect(t)
	running := c.Start("stall", `{}`)
	defer c.Cancel(running, "")
	rnd := rand.New(rand.NewPCG(5, 7))
	runes := []rune("0123456789012345678901234567890123456789--+ .xe$>*()%\x00\r\n/é１٣\U0001F600")
	for i := range 600 {
		cursor := make([]rune, rnd.IntN(1+[]int{4, 24, 45}[i%3]))
		for j := range cursor {
			if cursor[j] = runes[rnd.IntN(10)]; rnd.IntN(8) == 0 {
				cursor[j] = runes[rnd.IntN(len(runes))]
			}
		}
		s, ways := string(cursor), []string{"/events?afterEventId=", "/events/stream?lastEventId="}
		path := tasks + "/" + running + ways[i%2] + url.QueryEscape(s)
		res, body, err := c.Exchange(http.MethodHead, "HEAD "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+c.Subject+"\r\n\r\n")
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		want := http.StatusBadRequest
		if aCursor(s) {
			want = http.StatusOK
		}
		if res.StatusCode != want {
			t.Errorf("%s %q: %d %.200s, want %d", ways[i%2], s, res.StatusCode, body, want)
		}
	}
}
