package localexec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// host is an engine on an embedded store around an executor.
type host struct {
	*testing.T
	engine *engine.Engine
	store  *memstore.Store
	exec   *localexec.Executor
	logged *logBuffer

	mu       sync.Mutex
	requests int
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

var ann = engine.AuthContext{Subject: "ann"}

// newHost works inside and outside of a synctest bubble. wrap may put
// something between the engine and the store.
func newHost(t *testing.T, cfg localexec.Config, wrap func(*memstore.Store) engine.Store, opts ...localexec.Option) *host {
	t.Helper()
	h := &host{T: t, logged: &logBuffer{}}
	logger := slog.New(slog.NewTextHandler(h.logged, nil))
	cfg.Logger = logger
	var err error
	if h.exec, err = localexec.New(cfg, opts...); err != nil {
		t.Fatal(err)
	}
	if h.store, err = memstore.New(memstore.Config{Logger: logger}); err != nil {
		t.Fatal(err)
	}
	var store engine.Store = h.store
	if wrap != nil {
		store = wrap(h.store)
	}
	h.engine, err = engine.New(engine.Config{
		Store: store, Executor: h.exec, Ownership: engine.OwnerOnly(), Logger: logger,
		Emit: engine.EmitConfig{Retry: time.Second}, Limits: engine.Limits{PayloadBytes: 4096},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.engine.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		_ = h.store.Close()
	})
	return h
}

func (h *host) tryCreate(taskType, input string) (engine.Task, error) {
	return h.tryCreateAs(ann, taskType, input)
}

func (h *host) tryCreateAs(auth engine.AuthContext, taskType, input string) (engine.Task, error) {
	h.mu.Lock()
	h.requests++
	id := fmt.Sprint("request ", h.requests)
	h.mu.Unlock()
	res, err := h.engine.Create(context.Background(), auth, engine.CreateRequest{
		ClientRequestID: id, TaskType: taskType, Input: json.RawMessage(input),
	})
	return res.Task, err
}

func (h *host) create(taskType, input string) string {
	h.Helper()
	task, err := h.tryCreate(taskType, input)
	if err != nil {
		h.Fatalf("Create %q: %v", taskType, err)
	}
	return task.ID
}

func (h *host) cancel(taskID, reason string) {
	h.Helper()
	if _, err := h.engine.Cancel(context.Background(), ann, taskID, reason); err != nil {
		h.Fatal(err)
	}
}

// log waits for the task's end and gives its events as lines of type and
// payload.
func (h *host) log(taskID string) string {
	h.Helper()
	var lines []string
	var after engine.EventID
	for {
		p, err := h.engine.Poll(context.Background(), ann, engine.PollRequest{TaskID: taskID, After: after, Wait: time.Minute})
		if err != nil {
			h.Fatal(err)
		}
		if len(p.Events) == 0 {
			h.Fatalf("the task does not end; so far:\n%s", strings.Join(lines, "\n"))
		}
		for _, ev := range p.Events {
			lines = append(lines, string(ev.Type)+" "+string(ev.Payload))
			if ev.Type.Terminal() {
				return strings.Join(lines, "\n")
			}
		}
		after = p.Next
	}
}

func (h *host) wantLog(taskID string, lines ...string) {
	h.Helper()
	if got, want := h.log(taskID), strings.Join(lines, "\n"); got != want {
		h.Errorf("the log is\n%s\nwant\n%s", got, want)
	}
}

func (h *host) status(taskID string) engine.Status {
	h.Helper()
	task, err := h.store.Get(context.Background(), taskID, engine.Fresh)
	if err != nil {
		h.Fatal(err)
	}
	return task.Status
}

const started = "TASK_STARTED {}"

func failed(code, message string, retryable bool) string {
	return fmt.Sprintf(`TASK_FAILED {"code":%q,"message":%q,"retryable":%v}`, code, message, retryable)
}

type empty struct{}
