package fiberbridge_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func TestCreatesPerSubject(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) { o.engine.Creates = engine.CreateRate{PerSecond: 1, Burst: 3} })
	post := func(subject string, i int) reply {
		return h.as(t, subject, http.MethodPost, "/tasks", fmt.Sprintf(`{"clientRequestId":"c%d","taskType":"words"}`, i))
	}
	for i := range 3 {
		if r := post("alice", i); r.status != 201 {
			t.Fatal(r)
		}
	}
	r := post("alice", 3)
	if after, err := strconv.Atoi(r.header.Get("Retry-After")); r.status != 429 || r.code() != engine.CodeRateLimited || err != nil || after < 1 || after > 2 {
		t.Errorf("%s, Retry-After %q", r, r.header.Get("Retry-After"))
	}
	if r := post("alice", 0); r.status != 429 {
		t.Errorf("a repeat: %s", r)
	}
	if r := post("bob", 3); r.status != 201 {
		t.Errorf("another subject: %s", r)
	}
}

// What is refused by the rate was not read: neither the body's syntax nor its
// size matters any more. What is refused for its content counts.
func TestCreatesThatAreRefusedCount(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) { o.engine.Creates = engine.CreateRate{PerSecond: 1, Burst: 2} })
	for range 2 {
		if r := h.as(t, "alice", http.MethodPost, "/tasks", `{"clientRequestId":`); r.status != 400 {
			t.Fatal(r)
		}
	}
	if r := h.as(t, "alice", http.MethodPost, "/tasks", `{"clientRequestId":`); r.status != 429 || r.code() != engine.CodeRateLimited {
		t.Errorf("over the rate: %s", r)
	}
}
