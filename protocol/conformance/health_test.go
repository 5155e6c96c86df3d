package conformance_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestHealthAndReady(t *testing.T) {
	c := connect(t).As("")
	if a := c.Get("/health").Want(t, http.StatusOK); string(a.Body) != `{"status":"ok"}` {
		t.Errorf("%s", a.Body)
	}
	var r struct {
		Status  string
		Details map[string]any
	}
	c.Get("/ready").Want(t, http.StatusOK).Decode(t, &r)
	if r.Status != "ready" || len(r.Details) == 0 {
		t.Errorf("%+v", r)
	}
}

func TestErrorsAreJSON(t *testing.T) {
	c := connect(t)
	for _, a := range []struct{ method, path string }{
		{http.MethodGet, tasks + "/aaaaaaaaaaaaaaaa"}, {http.MethodPost, tasks}, {http.MethodPost, tasks + "/aaaaaaaaaaaaaaaa/cancel"},
	} {
		got := c.Do(a.method, a.path, nil, nil)
		if kind := got.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") || got.Status < 400 {
			t.Errorf("%s %s: %d %s", a.method, a.path, got.Status, kind)
		}
	}
}
