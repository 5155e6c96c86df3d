package fiberbridge

import "testing"

func TestSSEAccept(t *testing.T) {
	for _, tc := range []struct {
		accept    string
		ok, named bool
	}{
		{"", true, false},
		{"  ", true, false},
		{"*/*", true, false},
		{"text/*", true, false},
		{"text/event-stream", true, true},
		{"Text/Event-Stream;q=0.5, */*;q=0.1", true, true},
		{"application/json, text/event-stream", true, true},
		{"application/json", false, false},
		{"text/event-stream;q=0, */*", false, false},
		{"*/*;q=0", false, false},
		{"text/*;q=0, */*", false, false},
		{"text/event-stream; charset=utf-8; Q=0.0", false, false},
		{"text/event-stream;q=x", true, true},
		{",,;;", false, false},
	} {
		ok, named := acceptsEventStream(tc.accept)
		if ok != tc.ok || named != tc.named {
			t.Errorf("%q: %v, %v", tc.accept, ok, named)
		}
	}
}
