package main

import (
	"os"
	"strings"
	"testing"
)

// TestRun is the whole of it, small: that the load tool takes these flags, and
// writes what is read.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	s, err := parse([]string{
		"-subscribers", "20", "-rate", "50", "-single", "20", "-duration", "500ms", "-flush", "5ms", "-transports", webSocket, "-server-cpus", "",
	}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), s, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"20 subscribers of one task over WebSocket", "| bare loop, 20 events/s |", "| 50 events/s | 5ms |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}
