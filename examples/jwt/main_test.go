package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock for the Date header is never stopped, and the cleaner
		// of a server's worker pool looks up every ten seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

var secret = []byte("a secret of this test alone, long enough")

const issuer, audience = "https://id.example", "tasks"

// token signs a token that ends at until, or never.
func token(t *testing.T, subject, scope string, until time.Time) string {
	t.Helper()
	c := claims{Scope: scope, RegisteredClaims: jwt.RegisteredClaims{Subject: subject, Issuer: issuer, Audience: jwt.ClaimStrings{"other", audience}}}
	if !until.IsZero() {
		c.ExpiresAt = jwt.NewNumericDate(until)
	}
	return sign(t, jwt.SigningMethodHS256, c, secret)
}

func sign(t *testing.T, method jwt.SigningMethod, c claims, key any) string {
	t.Helper()
	s, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs the host on a free port and returns where its tasks are.
func serve(t *testing.T) string {
	t.Helper()
	app, bridge, err := newApp(trust{secret, issuer, audience})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(bridge.Shutdown(ctx), app.ShutdownWithContext(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String() + "/api/v1/tasks"
}

func do(t *testing.T, method, url, token, body string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
	return res
}

func create(t *testing.T, base, token, body string) string {
	t.Helper()
	res := do(t, http.MethodPost, base, token, body)
	var created struct{ TaskID string }
	if err := json.NewDecoder(res.Body).Decode(&created); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatal(res.Status, err)
	}
	return created.TaskID
}

// follow reads a stream to its end: the types of its events, the reason of a
// closing notice, and how it ended.
func follow(t *testing.T, res *http.Response) (types []string, closing string, end error) {
	t.Helper()
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return types, closing, err
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var e struct {
			Type    string
			Payload struct{ Closing struct{ Reason string } }
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if e.Type != "HEARTBEAT" {
			types = append(types, e.Type)
		} else if e.Payload.Closing.Reason != "" {
			closing = e.Payload.Closing.Reason
		}
	}
}

func TestFollowATask(t *testing.T) {
	base := serve(t)
	ada := token(t, "ada", "tasks:create", time.Now().Add(time.Hour))
	id := create(t, base, ada, `{"clientRequestId":"1","taskType":"wait","input":{"millis":50}}`)
	types, _, end := follow(t, do(t, http.MethodGet, base+"/"+id+"/events/stream", ada, ""))
	if want := []string{"TASK_STARTED", "TASK_PROGRESS", "TASK_COMPLETED"}; !slices.Equal(types, want) || !errors.Is(end, io.EOF) {
		t.Errorf("%v, want %v; %v", types, want, end)
	}
	// The same from a browser, which cannot set the header.
	types, _, _ = follow(t, do(t, http.MethodGet, base+"/"+id+"/events/stream?access_token="+ada, "", ""))
	if len(types) != 3 {
		t.Errorf("with the token in the query: %v", types)
	}
	bob := token(t, "bob", "tasks:create", time.Now().Add(time.Hour))
	if res := do(t, http.MethodGet, base+"/"+id, bob, ""); res.StatusCode != http.StatusNotFound {
		t.Errorf("another subject: %s", res.Status)
	}
}

func TestRefusedTokens(t *testing.T) {
	base := serve(t)
	later := jwt.RegisteredClaims{
		Subject: "ada", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)), Issuer: issuer, Audience: jwt.ClaimStrings{audience},
	}
	but := func(change func(*claims)) string {
		c := claims{Scope: "tasks:create", RegisteredClaims: later}
		change(&c)
		return sign(t, jwt.SigningMethodHS256, c, secret)
	}
	good := token(t, "ada", "", time.Now().Add(time.Hour))
	for name, token := range map[string]string{
		"none":                 "",
		"rubbish":              "a.b.c",
		"expired":              token(t, "ada", "tasks:create", time.Now().Add(-time.Minute)),
		"without an end":       token(t, "ada", "tasks:create", time.Time{}),
		"without subject":      token(t, "", "tasks:create", time.Now().Add(time.Hour)),
		"unsigned":             sign(t, jwt.SigningMethodNone, claims{RegisteredClaims: later}, jwt.UnsafeAllowNoneSignatureType),
		"another key":          sign(t, jwt.SigningMethodHS256, claims{RegisteredClaims: later}, []byte("not the key")),
		"another method":       sign(t, jwt.SigningMethodHS512, claims{RegisteredClaims: later}, secret),
		"of another issuer":    but(func(c *claims) { c.Issuer = "https://other.example" }),
		"without issuer":       but(func(c *claims) { c.Issuer = "" }),
		"for another audience": but(func(c *claims) { c.Audience = jwt.ClaimStrings{"other"} }),
		"without audience":     but(func(c *claims) { c.Audience = nil }),
		"cut off":              good[:len(good)-2],
	} {
		res := do(t, http.MethodGet, base+"/aaaaaaaaaaaaaaaa", token, "")
		var e struct{ Code string }
		if err := json.NewDecoder(res.Body).Decode(&e); err != nil || res.StatusCode != http.StatusUnauthorized || e.Code != "AUTHENTICATION_ERROR" {
			t.Errorf("%s: %s %+v %v", name, res.Status, e, err)
		}
		// The host's own routes are shut to it as well.
		if res := do(t, http.MethodGet, strings.TrimSuffix(base, "tasks")+"me", token, ""); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: the host's own route answers %s", name, res.Status)
		}
		// An app is told by the status, so that it refreshes its token; a browser's
		// page cannot see one, and is told by the close code.
		ctx := t.Context()
		if _, res, err := websocket.Dial(ctx, base+"/ws?access_token="+token, nil); err == nil || res == nil || res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: an app's WebSocket: %v, %v, want 401", name, res, err)
		}
		if code := closeCode(t, base, token); code != websocket.StatusPolicyViolation {
			t.Errorf("%s: a page's WebSocket ends with %v, want 1008", name, code)
		}
	}
}

// A host that does not say whose tokens it accepts would accept everybody's.
func TestTrustFromEnv(t *testing.T) {
	whole := map[string]string{"JWT_SECRET": string(secret), "JWT_ISSUER": issuer, "JWT_AUDIENCE": audience}
	if got, err := trustFromEnv(func(name string) string { return whole[name] }); err != nil || got.issuer != issuer || got.audience != audience {
		t.Errorf("%+v, %v", got, err)
	}
	for missing := range whole {
		_, err := trustFromEnv(func(name string) string {
			if name == missing {
				return ""
			}
			return whole[name]
		})
		if err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

func TestHostsOwnRoute(t *testing.T) {
	res := do(t, http.MethodGet, strings.TrimSuffix(serve(t), "tasks")+"me", token(t, "ada", "tasks:create", time.Now().Add(time.Hour)), "")
	var who struct{ Subject string }
	if err := json.NewDecoder(res.Body).Decode(&who); err != nil || res.StatusCode != http.StatusOK || who.Subject != "ada" {
		t.Errorf("%s %+v %v", res.Status, who, err)
	}
}

func closeCode(t *testing.T, base, token string) websocket.StatusCode {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, base+"/ws?access_token="+token, &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {strings.TrimSuffix(base, "/api/v1/tasks")}},
	})
	if err != nil {
		t.Fatal(res, err)
	}
	defer func() { _ = conn.CloseNow() }() // the server has closed
	_, _, err = conn.Read(ctx)
	return websocket.CloseStatus(err)
}

func TestCreatingTakesAScope(t *testing.T) {
	base := serve(t)
	reader := token(t, "ada", "tasks:read other", time.Now().Add(time.Hour))
	res := do(t, http.MethodPost, base, reader, `{"clientRequestId":"1","taskType":"wait"}`)
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("%s", res.Status)
	}
}

// The stream ends with its token, with a notice, and not as if the task were
// over; a fresh token goes on.
func TestStreamEndsWithItsToken(t *testing.T) {
	base := serve(t)
	ada := token(t, "ada", "tasks:create", time.Now().Add(time.Hour))
	id := create(t, base, ada, `{"clientRequestId":"1","taskType":"wait","input":{"millis":60000}}`)
	var expires time.Time
	var res *http.Response
	intime.Try(t, 2*time.Second, func(life time.Duration) bool {
		expires = time.Now().Add(life)
		res = do(t, http.MethodGet, base+"/"+id+"/events/stream", token(t, "ada", "", expires), "")
		return res.StatusCode != http.StatusUnauthorized || time.Now().Before(expires.Add(-time.Second)) // a token's seconds are whole
	})
	types, closing, end := follow(t, res)
	if closing != "auth_expired" || errors.Is(end, io.EOF) && !errors.Is(end, io.ErrUnexpectedEOF) || time.Since(expires) > 8*time.Second {
		t.Errorf("events %v, closing %q, %v, %v after the token's end", types, closing, end, time.Since(expires))
	}
	if res := do(t, http.MethodPost, base+"/"+id+"/cancel", ada, ""); res.StatusCode != http.StatusAccepted {
		t.Errorf("a fresh token: %s", res.Status)
	}
}
