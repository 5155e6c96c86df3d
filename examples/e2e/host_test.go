package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests for something that should happen.
// It is far more than any of it takes, also on a machine that has other things
// to do: only a test that fails waits for so long.
const patience = 2 * time.Minute

// program is a program of this repository, built once.
type program struct {
	source string

	once sync.Once
	dir  string
	path string
	err  error
}

var (
	demoBinary     = program{source: "./examples/quickstart"}
	carelessBinary = program{source: "./internal/smuggling/host"}
)

func (p *program) build(t *testing.T) string {
	t.Helper()
	p.once.Do(func() {
		p.dir, p.err = os.MkdirTemp("", "e2e-") //nolint:usetesting // it serves all tests; TestMain removes it
		if p.err != nil {
			return
		}
		p.path = filepath.Join(p.dir, filepath.Base(p.source))
		build := exec.Command("go", "build", "-o", p.path, p.source)
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.path
}

func removeBinaries() {
	for _, p := range []*program{&demoBinary, &carelessBinary} {
		if p.dir != "" {
			_ = os.RemoveAll(p.dir)
		}
	}
}

// demoHost is a running demo host.
type demoHost struct {
	url    string // http://127.0.0.1:PORT
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process is gone
}

// startHost starts the demo host on a free port; the test's end stops it.
func startHost(t *testing.T, flags ...string) *demoHost {
	t.Helper()
	return startProgram(t, &demoBinary, append([]string{"-addr", "127.0.0.1:0"}, flags...)...)
}

// startProgram starts a program that says first where it listens.
func startProgram(t *testing.T, p *program, flags ...string) *demoHost {
	t.Helper()
	cmd := exec.Command(p.build(t), flags...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &demoHost{cmd: cmd, exited: make(chan struct{})}
	line := make(chan string, 1)
	go func() {
		defer close(h.exited)
		out := bufio.NewReader(stdout)
		first, _ := out.ReadString('\n')
		line <- strings.TrimSpace(first)
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-h.exited
		if t.Failed() {
			t.Logf("the host said:\n%s", stderr.String())
		}
	})
	select {
	case first := <-line:
		var ok bool
		if h.url, ok = strings.CutPrefix(first, "listening on "); !ok {
			t.Fatalf("the host said %q and %q", first, stderr.String())
		}
	case <-time.After(patience):
		t.Fatal("the host does not listen")
	}
	return h
}

// address is host:port.
func (h *demoHost) address() string { return strings.TrimPrefix(h.url, "http://") }

// drain sends SIGTERM.
func (h *demoHost) drain(t *testing.T) {
	t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// waitExit waits until the process has ended, with 0.
func (h *demoHost) waitExit(t *testing.T) {
	t.Helper()
	select {
	case <-h.exited:
	case <-time.After(patience):
		t.Fatal("the host does not exit")
	}
	if code := h.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// create starts a task of alice's and returns its id.
func create(t *testing.T, base, taskType string, input map[string]any) string {
	t.Helper()
	if input == nil {
		input = map[string]any{}
	}
	body, err := json.Marshal(map[string]any{
		"clientRequestId": fmt.Sprintf("%s-%d", t.Name(), time.Now().UnixNano()),
		"taskType":        taskType,
		"input":           input,
	})
	if err != nil {
		t.Fatal(err)
	}
	var created struct{ TaskID string }
	call(t, http.MethodPost, base+"/api/v1/tasks", body, http.StatusCreated, &created)
	return created.TaskID
}

// call makes a request as alice and decodes the answer.
func call(t *testing.T, method, address string, body []byte, wantStatus int, into any) {
	t.Helper()
	request, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer alice")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != wantStatus {
		t.Fatalf("%s %s: %s\n%s", method, address, response.Status, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatalf("%s %s: %v\n%s", method, address, err, answer)
		}
	}
}

// client leaves no connection behind.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// endless is the input of a tokens task that lasts until the test has seen what
// it wants to see: see finish. Nothing of such a test depends on how long a
// browser takes.
var endless = map[string]any{"count": 1_000_000, "intervalMs": 40}

// keepsAll is for hosts of endless tasks: their logs are not trimmed.
var keepsAll = []string{"-max-stream-length", "1000000"}

// finish cancels a task and returns how many events its log has then.
func finish(t *testing.T, base, taskID string) int {
	t.Helper()
	call(t, http.MethodPost, base+"/api/v1/tasks/"+taskID+"/cancel", nil, http.StatusAccepted, nil)
	var snapshot struct{ Status, LastEventID string }
	eventually(t, "the task is cancelled", func() bool {
		call(t, http.MethodGet, base+"/api/v1/tasks/"+taskID, nil, http.StatusOK, &snapshot)
		return snapshot.Status == "CANCELLED"
	})
	return ordinal(snapshot.LastEventID)
}

// lastOrdinal asks how many events the task has.
func lastOrdinal(t *testing.T, base, taskID string) int {
	t.Helper()
	var snapshot struct{ LastEventID string }
	call(t, http.MethodGet, base+"/api/v1/tasks/"+taskID, nil, http.StatusOK, &snapshot)
	return ordinal(snapshot.LastEventID)
}

// ordinal is what follows the dash of an event id, 0 if there is none.
func ordinal(eventID string) int {
	var millis, n int
	_, _ = fmt.Sscanf(eventID, "%d-%d", &millis, &n)
	return n
}

func streamURL(base, taskID, lastEventID string) string {
	q := url.Values{"access_token": {"alice"}}
	if lastEventID != "" {
		q.Set("lastEventId", lastEventID)
	}
	return base + "/api/v1/tasks/" + taskID + "/events/stream?" + q.Encode()
}

// eventually waits until what is asked for holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond) // the interval of asking
	}
}

// still checks that something goes on to hold.
func still(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if !holds() {
			t.Fatalf("no longer so: %s", what)
		}
	}
}

// lockedBuffer is a bytes.Buffer that a process writes while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
