package readers

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"

	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// TestReadersGetNoEmptyMessage: these readers dispatch a message with empty data
// at a blank line that follows no data. What a handler that parses each message
// does then is not to be found out.
func TestReadersGetNoEmptyMessage(t *testing.T) {
	heartbeat := 40 * time.Millisecond
	for name, read := range map[string]func(t *testing.T, url string) []string{
		"npm fetch-event-source": func(t *testing.T, url string) []string { return lines(t, node(t, "read.mjs", url)) },
		"PyPI httpx-sse":         func(t *testing.T, url string) []string { return lines(t, python(t, "read.py", url)) },
		"Go tmaxmax/go-sse":      readGoSSE,
		"Go r3labs/sse":          readR3labs,
	} {
		for what, sse := range map[string]fiberbridge.SSEConfig{
			"all":           {Heartbeat: heartbeat},
			"comments only": {Heartbeat: heartbeat, DisableData: true},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				h := startHost(t, sse)
				_, path := h.stream(t, "talk")
				var types []string
				for _, data := range read(t, h.url+path) {
					var event struct{ Type string }
					if err := json.Unmarshal([]byte(data), &event); err != nil {
						t.Errorf("a message whose data is %q", data)
					} else if event.Type != "HEARTBEAT" {
						types = append(types, event.Type)
					}
				}
				if got := strings.Join(types, " "); got != "TASK_STARTED TASK_MESSAGE TASK_MESSAGE TASK_MESSAGE TASK_COMPLETED" {
					t.Errorf("the events are %s", got)
				}
			})
		}
	}
}

// lines decodes what a program printed.
func lines(t *testing.T, out string) (data []string) {
	t.Helper()
	for line := range strings.Lines(out) {
		var text string
		if err := json.Unmarshal([]byte(line), &text); err != nil {
			t.Fatalf("the program printed %q", out)
		}
		data = append(data, text)
	}
	return data
}

func readGoSSE(t *testing.T, url string) (data []string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &gosse.Client{HTTPClient: &http.Client{}, Backoff: gosse.Backoff{MaxRetries: -1}}
	conn := client.NewConnection(req)
	conn.SubscribeToAll(func(e gosse.Event) { data = append(data, e.Data) })
	if err := conn.Connect(); err != nil && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	return data
}

func readR3labs(t *testing.T, url string) (data []string) {
	t.Helper()
	client := sse.NewClient(url)
	err := client.SubscribeRawWithContext(t.Context(), func(e *sse.Event) { data = append(data, string(e.Data)) })
	if err != nil {
		t.Error(err)
	}
	return data
}
