package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock for the Date header is never stopped, and the cleaner
		// of a server's worker pool looks up every ten seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func TestServices(t *testing.T) {
	known, err := parseServices("billing:" + digest("b-token") + ":tasks:create other,desk:" + digest("d-token") + ":tasks:support,idle:" + digest("i-token") + ":")
	if err != nil {
		t.Fatal(err)
	}
	app, bridge, err := newApp(known)
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
	tasks := "http://" + ln.Addr().String() + "/api/v1/tasks"

	const body = `{"clientRequestId":"1","taskType":"count"}`
	for token, want := range map[string]int{"": 401, "Bearer x": 401, "Basic b-token": 401, "Bearer d-token": 403, "Bearer i-token": 403} {
		if res := do(t, http.MethodPost, tasks, token, body); res.StatusCode != want {
			t.Errorf("create with %q: %s", token, res.Status)
		}
	}
	var created struct{ TaskID string }
	res := do(t, http.MethodPost, tasks, "Bearer b-token", body)
	if err := json.NewDecoder(res.Body).Decode(&created); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatal(res.Status, err)
	}
	for token, want := range map[string]int{"Bearer b-token": 200, "Bearer d-token": 200, "Bearer i-token": 404} {
		if res := do(t, http.MethodGet, tasks+"/"+created.TaskID, token, ""); res.StatusCode != want {
			t.Errorf("snapshot with %q: %s", token, res.Status)
		}
	}
}

func TestParseServices(t *testing.T) {
	for _, wrong := range []string{
		"", "a", "a:b:c", ":" + digest("x") + ":", "a:" + digest("x"), "a:" + digest("x")[2:] + ":", "a:" + digest("x") + "00:",
		"a:" + digest("x") + ":,b:" + digest("x") + ":",
	} {
		if _, err := parseServices(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
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
		req.Header.Set("Authorization", token)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
	return res
}
