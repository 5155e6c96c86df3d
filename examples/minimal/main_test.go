package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
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

// listen serves the host on a free port.
func listen(t *testing.T) (addr string) {
	t.Helper()
	app, bridge, err := newApp()
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
		if err := bridge.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := app.ShutdownWithContext(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// The commands in main.go's comment work as they stand.
func TestCommands(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(source), "to its end:\n//\n")
	script, _, ended := strings.Cut(script, "package main")
	if !found || !ended || strings.Count(script, "localhost:8080") != 2 {
		t.Fatal("main.go has no commands")
	}
	script = strings.ReplaceAll(strings.ReplaceAll(script, "//\t", ""), "localhost:8080", listen(t))
	cmd := exec.CommandContext(t.Context(), "sh", "-eu")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"type":"TASK_COMPLETED"`) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestFollowATask(t *testing.T) {
	base := "http://" + listen(t) + "/api/v1/tasks"

	var created struct{ TaskID string }
	res := do(t, http.MethodPost, base, `{"clientRequestId":"1","taskType":"count"}`)
	if err := json.NewDecoder(res.Body).Decode(&created); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatal(res.Status, err)
	}
	res = do(t, http.MethodGet, base+"/"+created.TaskID+"/events/stream", "")
	var types []string
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e struct{ Type string }
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(err)
			}
			types = append(types, e.Type)
		}
	}
	if want := []string{"TASK_STARTED", "TASK_PROGRESS", "TASK_PROGRESS", "TASK_PROGRESS", "TASK_COMPLETED"}; !slices.Equal(types, want) {
		t.Errorf("%v, want %v", types, want)
	}
}

func do(t *testing.T, method, url, body string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User", "ada")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
	return res
}
