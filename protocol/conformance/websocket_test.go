package conformance_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

func TestSocketLive(t *testing.T) {
	c := connect(t)
	id := c.Start("tokens", `{"count":30,"intervalMs":5,"size":12}`)
	told := c.SocketToEnd(id, "")
	client.CheckLog(t, id, told.Events, 1)
	if len(told.Events) != 32 || len(told.Closings)+len(told.Gaps) > 0 {
		t.Errorf("%+v", told)
	}
	checkConfirmed(t, told, id, "")
}

// SUBSCRIPTION_CONFIRMED comes first, also when the end follows at once.
func TestSocketConfirmsFirst(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	for _, after := range []string{"", log[1].EventID, log[len(log)-1].EventID} {
		s := c.Dial(nil)
		s.Subscribe(id, after)
		if f, err := s.Next(client.Patience); err != nil || f.Type != "SUBSCRIPTION_CONFIRMED" {
			t.Errorf("after %q: %+v %v", after, f, err)
		}
	}
}

func TestSocketCursorForms(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	for frame, want := range map[string]int{
		`{"action":"subscribe","taskId":%q}`:                                        0,
		`{"action":"subscribe","taskId":%q,"lastEventId":""}`:                       0,
		`{"action":"subscribe","taskId":%q,"lastEventId":null}`:                     0, // clients that write out their absent fields
		`{"action":"subscribe","taskId":%q,"lastEventId":"0"}`:                      0,
		`{"action":"subscribe","taskId":%q,"lastEventId":"5"}`:                      0,
		`{"lastEventId":"` + log[1].EventID + `","taskId":%q,"action":"subscribe"}`: 2,
		"{\n\"action\" : \"subscribe\" ,\t\"taskId\" : %q }\n":                      0,
		`{"action":"subscribe","taskId":%q,"lastEventId":"99999999999999-1"}`:       len(log),
	} {
		s := c.Dial(nil)
		s.Send(fmt.Sprintf(frame, id))
		told := s.ToEnd()
		if told.Code != 1000 || len(told.Confirmed) != 1 {
			t.Errorf("%s: %+v", frame, told)
			continue
		}
		client.CheckEqual(t, told.Events, log[want:])
	}
	for _, cursor := range badCursors {
		if cursor == "\xff" { // not UTF-8 is another close code
			continue
		}
		s := c.Dial(nil)
		s.Send(fmt.Sprintf(`{"action":"subscribe","taskId":%q,"lastEventId":%s}`, id, quote(cursor)))
		if told := s.ToEnd(); told.Code != 1008 || len(told.Confirmed) > 0 {
			t.Errorf("cursor %q: %+v", cursor, told)
		}
	}
}

// invalidFrames are texts that are no frame of a client.
var invalidFrames = []string{
	"", " ", "hello", "{", `{"action":"subscribe"}`, `{"action":"subscribe","taskId":5}`, `{"action":"subscribe","taskId":null}`,
	`{"taskId":"aaaaaaaaaaaaaaaa"}`, `{"action":"dance","taskId":"aaaaaaaaaaaaaaaa"}`, `{"action":null,"taskId":"aaaaaaaaaaaaaaaa"}`,
	`{"action":"Subscribe","taskId":"aaaaaaaaaaaaaaaa"}`, `[]`, `null`, `1`, `"subscribe"`,
	`{"action":"subscribe","taskId":"aaaaaaaaaaaaaaaa","extra":1}`, `{"action":"subscribe","taskId":"aaaaaaaaaaaaaaaa","lastEventId":5}`,
	`{"action":"subscribe","taskId":"aaaaaaaaaaaaaaaa","LastEventId":"5"}`, `{"Action":"subscribe","taskId":"aaaaaaaaaaaaaaaa"}`,
	`{"action":"subscribe","taskId":"aaaaaaaaaaaaaaaa"}x`, `{"action":"subscribe","taskId":"aaaaaaaaaaaaaaaa"}{}`,
	`{"action":"unsubscribe"}`, `{"action":"unsubscribe","taskId":"aaaaaaaaaaaaaaaa","lastEventId":"5"}`,
	`{"action":"subscribe","taskId":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
}

func TestSocketInvalidFirstFrame(t *testing.T) {
	c := connect(t)
	for _, text := range invalidFrames {
		s := c.Dial(nil)
		s.Send(text)
		if told := s.ToEnd(); told.Code != 1008 || len(told.Confirmed) > 0 {
			t.Errorf("%.100q: %+v", text, told)
		}
	}
	s := c.Dial(nil)
	s.SendBinary(`{"action":"subscribe","taskId":"aaaaaaaaaaaaaaaa"}`)
	if told := s.ToEnd(); told.Code != 1008 {
		t.Errorf("binary: %+v", told)
	}
}

func TestSocketInvalidFrameLater(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	for _, text := range invalidFrames {
		s := c.Dial(nil)
		s.Subscribe(id, "")
		s.Want("SUBSCRIPTION_CONFIRMED")
		s.Want("TASK_STARTED")
		s.Send(text)
		if told := s.ToEnd(); told.Code != 1008 || len(told.Rejected) > 0 {
			t.Errorf("%.100q: %+v", text, told)
		}
	}
	s := c.Dial(nil)
	s.Subscribe(id, "")
	s.Want("SUBSCRIPTION_CONFIRMED")
	s.Want("TASK_STARTED")
	s.SendBinary("x")
	if told := s.ToEnd(); told.Code != 1008 {
		t.Errorf("binary: %+v", told)
	}
}

func TestSocketTextThatIsNotUTF8(t *testing.T) {
	c := connect(t)
	for name, text := range map[string]string{
		"in a string": "{\"action\":\"subscribe\",\"taskId\":\"\xff\"}", "overlong": "\xc0\x80", "surrogate": "\"\xed\xa0\x80\"", "cut off": "\xe2\x82",
	} {
		s := c.DialRaw(t, nil, client.MaskedFrame(true, client.OpText, text))
		if code, err := s.CloseCode(client.Patience); code != 1007 || err != nil {
			t.Errorf("%s: %d %v", name, code, err)
		}
	}
	// A character that is split between two fragments is one.
	s := c.DialRaw(t, nil, append(client.MaskedFrame(false, client.OpText, "\xe7\x8c"), client.MaskedFrame(true, client.OpContinuation, "\xab")...))
	if code, err := s.CloseCode(client.Patience); code != 1008 || err != nil {
		t.Errorf("split: %d %v", code, err)
	}
}

func TestSocketMessageSize(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	frame := fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id)
	s := c.Dial(nil)
	s.Send(frame + strings.Repeat(" ", 4096-len(frame)))
	if told := s.ToEnd(); told.Code != 1000 || len(told.Events) != len(log) {
		t.Errorf("4096 bytes: %+v", told)
	}
	for _, n := range []int{4097, 1 << 16, 1 << 20} {
		s := c.DialRaw(t, nil, client.MaskedFrame(true, client.OpText, frame+strings.Repeat(" ", n-len(frame)))[:4200])
		if code, err := s.CloseCode(client.Patience); code != 1009 || err != nil {
			t.Errorf("%d bytes: %d %v", n, code, err)
		}
	}
	// Over the limit in pieces.
	var pieces []byte
	for i := range 5 {
		opcode := byte(client.OpContinuation)
		if i == 0 {
			opcode = client.OpText
		}
		pieces = append(pieces, client.MaskedFrame(i == 4, opcode, strings.Repeat(" ", 1000))...)
	}
	r := c.DialRaw(t, nil, pieces)
	if code, err := r.CloseCode(client.Patience); code != 1009 || err != nil {
		t.Errorf("in pieces: %d %v", code, err)
	}
	// A head that announces the largest length there is.
	r = c.DialRaw(t, nil, []byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4})
	if code, err := r.CloseCode(client.Patience); code != 1009 || err != nil {
		t.Errorf("2^63-1: %d %v", code, err)
	}
}

func TestSocketFragmentsAndControlFrames(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	frame := fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id)
	wire := client.MaskedFrame(false, client.OpText, frame[:7])
	wire = append(wire, client.MaskedFrame(true, client.OpPing, "between")...)
	wire = append(wire, client.MaskedFrame(false, client.OpContinuation, "")...)
	wire = append(wire, client.MaskedFrame(true, client.OpContinuation, frame[7:])...)
	wire = append(wire, client.MaskedFrame(true, client.OpPong, "nobody asked")...)
	wire = append(wire, client.MaskedFrame(true, client.OpPing, strings.Repeat("p", 125))...)
	for name, split := range map[string]int{"one packet with the handshake": len(wire), "after the handshake": 0, "cut in a frame": 9} {
		t.Run(name, func(t *testing.T) {
			s := c.For(t).DialRaw(t, nil, wire[:split])
			if s.Response.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(s.Response.Status)
			}
			for _, b := range wire[split:] { // byte by byte
				if err := s.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			var pongs, texts []string
			// RFC 6455, section 5.5.3: of several pings only the last need be answered.
			last := strings.Repeat("p", 125)
			for len(texts) < 2 || len(pongs) == 0 || pongs[len(pongs)-1] != last {
				opcode, payload, err := s.Read(client.Patience)
				if err != nil {
					t.Fatalf("%v; pongs %q, texts %q", err, pongs, texts)
				}
				switch opcode {
				case client.OpPong:
					pongs = append(pongs, string(payload))
				case client.OpText:
					texts = append(texts, string(payload))
				}
			}
			if len(pongs) > 2 || len(pongs) == 2 && pongs[0] != "between" {
				t.Errorf("pongs %q", pongs)
			}
			if !strings.Contains(texts[0], "SUBSCRIPTION_CONFIRMED") || !strings.Contains(texts[1], "TASK_STARTED") {
				t.Errorf("texts %q", texts)
			}
			if err := s.Write(client.MaskedFrame(true, client.OpClose, "\x03\xe8bye")); err != nil {
				t.Fatal(err)
			}
			if code, err := s.CloseCode(client.Patience); code != 1000 || err != nil {
				t.Errorf("the answer to close 1000: %d %v", code, err)
			}
		})
	}
}

// RFC 6455 forbids these; whatever the server closes with, it must close.
func TestSocketProtocolViolations(t *testing.T) {
	c := connect(t)
	unmasked := []byte{0x81, 0x02, '{', '}'}
	rsv := client.MaskedFrame(true, client.OpText, "{}")
	rsv[0] |= 0x40
	for name, wire := range map[string][]byte{
		"unmasked":                  unmasked,
		"a reserved bit":            rsv,
		"a reserved opcode":         client.MaskedFrame(true, 3, "x"),
		"a long ping":               client.MaskedFrame(true, client.OpPing, strings.Repeat("x", 126)),
		"a ping in pieces":          client.MaskedFrame(false, client.OpPing, "x"),
		"a continuation of nothing": client.MaskedFrame(true, client.OpContinuation, "x"),
		"a text within a text":      append(client.MaskedFrame(false, client.OpText, "{"), client.MaskedFrame(true, client.OpText, "}")...),
		"a close of one byte":       client.MaskedFrame(true, client.OpClose, "x"),
		"a close code of nobody":    client.MaskedFrame(true, client.OpClose, "\x03\xed"), // 1005
		"HTTP":                      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		s := c.DialRaw(t, nil, wire)
		code, err := s.CloseCode(client.Patience)
		if err != nil || (code != 1002 && code != 1008 && code != 0) {
			t.Errorf("%s: %d %v", name, code, err)
		}
	}
}

func TestSocketOffersNoCompression(t *testing.T) {
	c := connect(t)
	s := c.DialRaw(t, http.Header{"Sec-WebSocket-Extensions": {"permessage-deflate; client_max_window_bits"}}, nil)
	if s.Response.StatusCode != http.StatusSwitchingProtocols || s.Response.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("%d %v", s.Response.StatusCode, s.Response.Header)
	}
	if s.Response.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455, section 1.3
		t.Errorf("%v", s.Response.Header)
	}
}

func TestSocketOrigins(t *testing.T) {
	c := connect(t)
	own := strings.TrimPrefix(c.Base, "http://")
	for origin, want := range map[string]int{
		"":                             http.StatusSwitchingProtocols,
		c.Base:                         http.StatusSwitchingProtocols,
		strings.ToUpper(c.Base):        http.StatusSwitchingProtocols,
		"https://evil.example":         http.StatusForbidden,
		"null":                         http.StatusForbidden,
		"http://127.0.0.1":             http.StatusForbidden, // another port
		"http://127.0.0.1:1":           http.StatusForbidden,
		c.Base + ".evil.example":       http.StatusForbidden,
		"http://evil.example#" + own:   http.StatusForbidden,
		"http://evil.example/" + own:   http.StatusForbidden,
		"http://" + own + "@evil":      http.StatusForbidden,
		"http://evil.example\t" + own:  http.StatusForbidden,
		"file://":                      http.StatusForbidden,
		"http://[::1":                  http.StatusForbidden,
		c.Base + ", https://evil.test": http.StatusForbidden,
		"https://evil.test, " + c.Base: http.StatusForbidden,
	} {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		s := c.DialRaw(t, h, nil)
		if s.Response.StatusCode != want {
			t.Errorf("Origin %q: %d, want %d", origin, s.Response.StatusCode, want)
		}
	}
	// Two of them: a proxy and the server could read different ones.
	if s := c.DialRaw(t, http.Header{"Origin": {c.Base, "https://evil.example"}}, nil); s.Response.StatusCode != http.StatusForbidden {
		t.Errorf("two origins: %d", s.Response.StatusCode)
	}
}

func TestSocketRouteWithoutHandshake(t *testing.T) {
	c := connect(t)
	a := c.Get(tasks + "/ws")
	if a.Status < 400 || a.Status > 499 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestSocketThatDoesNotSubscribe(t *testing.T) {
	_, c := start(t, "-subscribe-timeout", "400ms")
	for name, wire := range map[string][]byte{
		"silent":       nil,
		"pings":        client.MaskedFrame(true, client.OpPing, "x"),
		"half a frame": client.MaskedFrame(true, client.OpText, `{"action":"subscribe"}`)[:9],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			s := c.For(t).DialRaw(t, nil, wire)
			code, err := s.CloseCode(client.Patience)
			if took := time.Since(began); code != 1008 || err != nil || took < 350*time.Millisecond || took > busy(5*time.Second) {
				t.Errorf("%d %v after %v", code, err, took)
			}
		})
	}
}

// A peer that answers no ping is cut; one that does may be as silent as it
// likes.
func TestSocketPongs(t *testing.T) {
	following := func(t *testing.T, heartbeat, pong time.Duration) *client.RawSocket {
		_, c := start(t, "-heartbeat", heartbeat.String(), "-pong-timeout", pong.String())
		return c.DialRaw(t, nil, client.MaskedFrame(true, client.OpText, fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, c.Start("stall", `{}`))))
	}
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		s := following(t, 300*time.Millisecond, 300*time.Millisecond)
		began, pings := time.Now(), 0
		for {
			opcode, _, err := s.Read(client.Patience)
			if err != nil {
				break
			}
			if opcode == client.OpPing {
				pings++
			}
			if opcode == client.OpClose {
				t.Error("a close frame: old clients would take it for the end")
			}
		}
		if took := time.Since(began); pings == 0 || took < 350*time.Millisecond || took > busy(5*time.Second) {
			t.Errorf("%d pings, cut after %v", pings, took)
		}
	})
	t.Run("answering", func(t *testing.T) {
		t.Parallel()
		intime.Try(t, 300*time.Millisecond, func(pong time.Duration) bool {
			s := following(t, 300*time.Millisecond, pong)
			for until := time.Now().Add(time.Second + 3*pong); time.Now().Before(until); {
				opcode, payload, err := s.Read(client.Patience)
				if err == nil && opcode == client.OpPing {
					err = s.Write(client.MaskedFrame(true, client.OpPong, string(payload)))
				}
				if err != nil {
					t.Logf("with %v for a pong it is cut: %v", pong, err)
					return false
				}
			}
			return true
		})
	})
}

// A peer that half-closes is gone: it cannot answer anything any more.
func TestSocketHalfClose(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	s := c.DialRaw(t, nil, client.MaskedFrame(true, client.OpText, fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id)))
	if _, _, err := s.Read(client.Patience); err != nil {
		t.Fatal(err)
	}
	if err := s.HalfClose(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CloseCode(client.Patience); err != nil {
		t.Error(err)
	}
}

func TestSocketFirstSubscribeRefused(t *testing.T) {
	_, c := start(t, "-subscribe-timeout", "500ms")
	for _, first := range []string{"unsubscribe", "subscribe"} { // both valid, but it is not a subscribe, and no task
		frame := fmt.Sprintf(`{"action":%q,"taskId":"aaaaaaaaaaaaaaaa"}`, first)
		s := c.DialRaw(t, nil, client.MaskedFrame(true, client.OpText, frame))
		if code, err := s.CloseCode(client.Patience); code != 1008 || err != nil {
			t.Errorf("%s first: %d %v", first, code, err)
		}
	}
}

func TestSocketAnswersACleanClose(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	s := c.Dial(nil)
	s.Subscribe(id, "")
	s.Events(1)
	if err := s.CloseClean(); err != nil && !errors.Is(err, client.ErrQuiet) {
		t.Error(err)
	}
}

// RFC 6455, section 7.1.1: when both close frames are there the server ends the
// connection at once; browsers tell their page only then.
func TestSocketEndsWithTheCloseHandshake(t *testing.T) {
	c := connect(t)
	id, _ := c.Finished("greet", `{"name":"Ada"}`)
	for name, frame := range map[string]string{
		"over":          fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id),
		"unknown task":  `{"action":"subscribe","taskId":"aaaaaaaaaaaaaaaa"}`,
		"invalid frame": "x",
		"not UTF-8":     "\xff",
		"too long":      strings.Repeat(" ", 5000),
	} {
		s := c.DialRaw(t, nil, client.MaskedFrame(true, client.OpText, frame))
		code, err := s.CloseCode(client.Patience)
		if err != nil || code == 0 {
			t.Errorf("%s: %d %v", name, code, err)
			continue
		}
		if took, err := s.AnswerClose(code); err != nil || took > 2900*time.Millisecond { // it would wait 3 s for an answer
			t.Errorf("%s: %v, after %v", name, err, took)
		}
	}
}
