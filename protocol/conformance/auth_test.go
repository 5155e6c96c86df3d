package conformance_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

// routes lists every route of a task, with a method.
func routes(id string) map[string][2]string {
	return map[string][2]string{
		"create":   {http.MethodPost, tasks},
		"snapshot": {http.MethodGet, tasks + "/" + id},
		"poll":     {http.MethodGet, tasks + "/" + id + "/events"},
		"SSE":      {http.MethodGet, tasks + "/" + id + "/events/stream"},
		"cancel":   {http.MethodPost, tasks + "/" + id + "/cancel"},
	}
}

func TestWithoutCredentials(t *testing.T) {
	c := connect(t)
	id, _ := c.Finished("greet", `{"name":"Ada"}`)
	for _, who := range []string{"", expiring(c.Subject, time.Now().Add(-2*time.Second)), ";exp=99999999999"} {
		for name, r := range routes(id) {
			h := http.Header{"Accept": {"text/event-stream"}}
			a := c.As(who).Do(r[0], r[1], h, nil)
			if a.Status != http.StatusUnauthorized || a.Error(t).Code != "AUTHENTICATION_ERROR" {
				t.Errorf("%s as %q: %d %s", name, who, a.Status, a.Body)
			}
		}
		// An app is told by a status, and asks for fresh credentials; a page's script
		// would not see it.
		upgrade := http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
			"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
		}
		if a := c.As(who).Do(http.MethodGet, tasks+"/ws", upgrade, nil); a.Status != http.StatusUnauthorized || a.Error(t).Code != "AUTHENTICATION_ERROR" {
			t.Errorf("WebSocket as %q: %d %s", who, a.Status, a.Body)
		}
		s := c.As(who).Dial(http.Header{"Origin": {c.Base}})
		s.Subscribe(id, "")
		if told := s.ToEnd(); told.Code != 1008 || len(told.Events)+len(told.Confirmed) > 0 {
			t.Errorf("WebSocket as %q: %+v", who, told)
		}
	}
}

// A page's socket without credentials closes whatever it would have said.
func TestSocketWithoutCredentialsClosesAtOnce(t *testing.T) {
	c := connect(t).As("")
	start := time.Now()
	if told := c.Dial(http.Header{"Origin": {c.Base}}).ToEnd(); told.Code != 1008 {
		t.Errorf("%+v", told)
	}
	if took := time.Since(start); took > busy(5*time.Second) {
		t.Errorf("after %v", took)
	}
}

func TestAccessTokenInTheQuery(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	nobody := c.As("")
	nobody.Get(tasks+"/"+id+"?access_token="+c.Subject).Want(t, http.StatusOK)
	nobody.Get(tasks+"/"+id+"?access_token=other").Want(t, http.StatusNotFound, "TASK_NOT_FOUND")
	if len(log) == 0 {
		t.Error("no log")
	}
}

// What expires mid-stream ends the stream with a notice; an expiry in the
// future changes nothing else.
func TestCredentialsExpireMidStream(t *testing.T) {
	t.Run("SSE", func(t *testing.T) {
		t.Parallel()
		c := connect(t)
		id := c.Start("stall", `{}`)
		t.Cleanup(func() { c.Cancel(id, "") })
		until := time.Now().Add(3 * time.Second)
		h := c.As(expiring(c.Subject, until)).Follow(id, client.SSE{}).ToEnd()
		if !errors.Is(h.End, client.ErrCut) {
			t.Errorf("the end is %v, want a cut: the task is not over", h.End)
		}
		if len(h.Closings) != 1 || h.Closings[0].Reason != "auth_expired" || h.Retry == nil {
			t.Errorf("%+v", h)
		}
		if late := time.Since(until); late > busy(5*time.Second) {
			t.Errorf("%v late", late)
		}
		late := c.As(expiring(c.Subject, until)).OpenSSE(id, client.SSE{})
		if late.Status != http.StatusUnauthorized {
			t.Errorf("expired, and let in with %d", late.Status)
		}
	})
	t.Run("WebSocket", func(t *testing.T) {
		t.Parallel()
		c := connect(t)
		id := c.Start("stall", `{}`)
		t.Cleanup(func() { c.Cancel(id, "") })
		s := c.As(expiring(c.Subject, time.Now().Add(3*time.Second))).Dial(nil)
		s.Subscribe(id, "")
		if told := s.ToEnd(); told.Code != 3000 || len(told.Events) != 1 {
			t.Errorf("%+v", told)
		}
	})
	t.Run("WebSocket before it has subscribed", func(t *testing.T) {
		t.Parallel()
		c := connect(t)
		s := c.As(expiring(c.Subject, time.Now().Add(3*time.Second))).Dial(nil)
		if told := s.ToEnd(); told.Code != 3000 && told.Code != 1008 {
			t.Errorf("%+v", told)
		}
	})
	t.Run("not before", func(t *testing.T) {
		t.Parallel()
		c := connect(t).As("")
		name := subject()
		c = c.As(expiring(name, time.Now().Add(time.Hour)))
		id, log := c.Finished("greet", `{"name":"Ada"}`)
		client.CheckEqual(t, c.As(name).FollowToEnd(id, "").Events, log)
	})
}

// variant is one way of asking for a task that the caller must not see.
type variant struct{ name, id string }

func TestForeignAndMissingLookTheSame(t *testing.T) {
	owner := connect(t)
	open := owner.Start("stall", `{}`)
	defer owner.Cancel(open, "")
	over, _ := owner.Finished("greet", `{"name":"Ada"}`)
	missing := flip(over)
	stranger := owner.As(subject())
	variants := []variant{
		{"open, foreign", open}, {"over, foreign", over}, {"missing", missing},
		{"no id at all", "nope"}, {"upper case", strings.ToUpper(over)}, {"too long", strings.Repeat("a", 65)},
		{"with a slash", over[:8] + "%2f" + over[8:]}, {"with a line", over + "%0d%0aX-Evil:1"}, {"with a NUL", over + "%00"}, {"not UTF-8", "%ff%fe"},
	}
	for name, how := range map[string]func(id string) client.Answer{
		"snapshot": func(id string) client.Answer { return stranger.Get(tasks + "/" + id) },
		"poll":     func(id string) client.Answer { return stranger.Get(tasks + "/" + id + "/events") },
		"waiting poll": func(id string) client.Answer {
			return stranger.Get(tasks + "/" + id + "/events?waitTimeoutMs=60000")
		},
		"poll after a cursor": func(id string) client.Answer {
			return stranger.Get(tasks + "/" + id + "/events?afterEventId=9999999999999-9")
		},
		"SSE": func(id string) client.Answer {
			return stranger.Do(http.MethodGet, tasks+"/"+id+"/events/stream", http.Header{"Accept": {"text/event-stream"}}, nil)
		},
		"SSE HEAD": func(id string) client.Answer {
			return stranger.Do(http.MethodHead, tasks+"/"+id+"/events/stream", nil, nil)
		},
		"cancel": func(id string) client.Answer { return stranger.Post(tasks+"/"+id+"/cancel", `{"reason":"x"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			want := how(missing)
			if want.Status != http.StatusNotFound || (len(want.Body) > 0 && want.Error(t).Code != "TASK_NOT_FOUND") {
				t.Fatalf("missing: %d %s", want.Status, want.Body)
			}
			for _, v := range variants {
				got := how(v.id)
				if got.Status != want.Status || timeless(got.Body) != timeless(want.Body) || headers(got.Header) != headers(want.Header) {
					t.Errorf("%s: %d %s %s\nmissing: %d %s %s", v.name, got.Status, got.Body, headers(got.Header), want.Status, want.Body, headers(want.Header))
				}
			}
		})
	}
	t.Run("WebSocket", func(t *testing.T) {
		var want string
		for _, v := range []variant{{"missing", missing}, {"open, foreign", open}, {"over, foreign", over}, {"no id at all", "nope"}} {
			s := stranger.For(t).Dial(nil)
			s.Subscribe(v.id, "")
			told := s.ToEnd()
			got := told.End.Error()
			if want == "" {
				want = got
			}
			if told.Code != 1008 || len(told.Confirmed) != 0 || got != want {
				t.Errorf("%s: %+v, missing: %s", v.name, told, want)
			}
		}
	})
	t.Run("a later subscribe", func(t *testing.T) {
		mine := stranger.For(t).Start("stall", `{}`)
		defer stranger.Cancel(mine, "")
		s := stranger.For(t).Dial(nil)
		s.Subscribe(mine, "")
		s.Want("SUBSCRIPTION_CONFIRMED")
		s.Want("TASK_STARTED")
		var want client.Frame
		for _, v := range []variant{{"missing", missing}, {"open, foreign", open}, {"over, foreign", over}, {"no id at all", "nope"}} {
			s.Subscribe(v.id, "")
			got := s.Want("SUBSCRIPTION_REJECTED")
			if want.Code == "" {
				want = got
			}
			if got.TaskID != v.id || got.Code != "TASK_NOT_FOUND" || got.Message != want.Message {
				t.Errorf("%s: %s, missing: %s", v.name, got.Text, want.Text)
			}
		}
	})
}

// flip returns a well-formed id that is nobody's.
func flip(id string) string {
	return strings.Map(func(r rune) rune {
		if r == 'z' {
			return 'a'
		}
		if r == '9' {
			return '0'
		}
		return r + 1
	}, id)
}

// timeless is an error envelope without its timestamp.
func timeless(body []byte) string {
	before, after, ok := strings.Cut(string(body), `"timestamp":"`)
	if !ok {
		return string(body)
	}
	_, after, _ = strings.Cut(after, `"`)
	return before + after
}

// headers lists names and values without what differs from answer to answer.
func headers(h http.Header) string {
	h = h.Clone()
	h.Del("Date")
	h.Del("X-Request-Id")
	var b strings.Builder
	_ = h.Write(&b) // a builder takes everything
	return b.String()
}
