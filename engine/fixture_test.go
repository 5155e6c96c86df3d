package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

var (
	alice = engine.AuthContext{Subject: "alice"}
	bob   = engine.AuthContext{Subject: "bob"}
)

// store is the embedded store with faults: each hook, if set, stands before
// the call and may answer it.
type store struct {
	*memstore.Store
	gets, puts, deletes atomic.Int64
	readBytes           atomic.Int64 // of payloads, by ReadBytes

	mu       sync.Mutex
	onGet    func(id string, f engine.Freshness) (engine.Task, error, bool)
	onRead   func() error
	onCreate func(engine.Task) error // after the task was stored
	onLookup func() error
	onAppend func(ctx context.Context, a engine.Append) error
	lostAck  int // so many appends are stored and answered with an error
	appends  []engine.Append
}

func hook[F any](s *store, f *F) F {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *f
}

func (s *store) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *store) Get(ctx context.Context, id string, f engine.Freshness) (engine.Task, error) {
	s.gets.Add(1)
	if h := hook(s, &s.onGet); h != nil {
		if task, err, answered := h(id, f); answered {
			return task, err
		}
	}
	return s.Store.Get(ctx, id, f)
}

func (s *store) Read(ctx context.Context, id string, after engine.EventID, limit int) (engine.Page, error) {
	if h := hook(s, &s.onRead); h != nil {
		if err := h(); err != nil {
			return engine.Page{}, err
		}
	}
	return s.Store.Read(ctx, id, after, limit)
}

func (s *store) Lookup(ctx context.Context, owner, id string) (engine.Task, error) {
	if h := hook(s, &s.onLookup); h != nil {
		if err := h(); err != nil {
			return engine.Task{}, err
		}
	}
	return s.Store.Lookup(ctx, owner, id)
}

func (s *store) Create(ctx context.Context, task engine.Task) (engine.Task, bool, error) {
	stored, created, err := s.Store.Create(ctx, task)
	if h := hook(s, &s.onCreate); h != nil && err == nil {
		if err := h(stored); err != nil {
			return engine.Task{}, false, err
		}
	}
	return stored, created, err
}

func (s *store) Append(ctx context.Context, a engine.Append) ([]engine.EventID, error) {
	if h := hook(s, &s.onAppend); h != nil {
		if err := h(ctx, a); err != nil {
			return nil, err
		}
	}
	ids, err := s.Store.Append(ctx, a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.lostAck > 0 {
		s.lostAck--
		return nil, unavailable
	}
	if err == nil {
		s.appends = append(s.appends, a)
	}
	return ids, err
}

func (s *store) Put(ctx context.Context, name, contentType string, r io.Reader) (engine.Attachment, error) {
	a, err := s.Store.Put(ctx, name, contentType, r)
	if err == nil {
		s.puts.Add(1)
	}
	return a, err
}

func (s *store) Delete(ctx context.Context, a engine.Attachment) error {
	s.deletes.Add(1)
	return s.Store.Delete(ctx, a)
}

func (s *store) batches() []engine.Append {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]engine.Append(nil), s.appends...)
}

var unavailable = engine.NewError(engine.CodeStoreUnavailable, "gone for a moment")

// executor is one that does nothing unless told.
type executor struct {
	em *engine.Emitter

	mu        sync.Mutex
	onAdmit   func(engine.TaskSpec) error
	onSubmit  func(ctx context.Context, task engine.Task) error
	onCancel  func(engine.Task) error
	onStop    func(context.Context) error
	admitted  int
	released  int
	submitted []engine.Task
	cancelled []engine.Task
}

type slot struct{ x *executor }

func (x *executor) Bind(em *engine.Emitter) { x.em = em }

func (x *executor) Admit(_ context.Context, spec engine.TaskSpec) (engine.Slot, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.onAdmit != nil {
		if err := x.onAdmit(spec); err != nil {
			return nil, err
		}
	}
	x.admitted++
	return slot{x}, nil
}

func (x *executor) Cancel(_ context.Context, task engine.Task) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cancelled = append(x.cancelled, task)
	if x.onCancel != nil {
		return x.onCancel(task)
	}
	return nil
}

func (x *executor) Shutdown(ctx context.Context) error {
	if x.onStop != nil {
		return x.onStop(ctx)
	}
	return nil
}

func (s slot) Submit(ctx context.Context, task engine.Task) error {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	if s.x.onSubmit != nil {
		if err := s.x.onSubmit(ctx, task); err != nil {
			return err
		}
	}
	s.x.submitted = append(s.x.submitted, task)
	return nil
}

func (s slot) Release() {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	s.x.released++
}

// counts is a MetricsSink.
type counts struct {
	mu sync.Mutex
	n  map[string]int64
}

func (c *counts) Add(m engine.Metric, delta int64, transport string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int64{}
	}
	c.n[string(m)+" "+transport] += delta
}

func (c *counts) get(m engine.Metric, transport string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[string(m)+" "+transport]
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is an engine with all that it stands on.
type world struct {
	*engine.Engine
	store   *store
	exec    *executor
	metrics *counts
	log     *logBuffer
}

func newWorld(t *testing.T, change ...func(*engine.Config, *memstore.Config)) *world {
	t.Helper()
	w := &world{store: &store{}, exec: &executor{}, metrics: &counts{}, log: &logBuffer{}}
	logger := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := engine.Config{
		Store: w.store, Executor: w.exec, Ownership: engine.OwnerOnly(), Metrics: w.metrics, Logger: logger,
	}
	mem := memstore.Config{Logger: logger}
	for _, c := range change {
		c(&cfg, &mem)
	}
	var err error
	if w.store.Store, err = memstore.New(mem); err != nil {
		t.Fatal(err)
	}
	if w.Engine, err = engine.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop(t))
	return w
}

// stop shuts down; in a synctest bubble it must be called before the bubble ends.
func (w *world) stop(t *testing.T) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
}

func request(id string) engine.CreateRequest {
	return engine.CreateRequest{ClientRequestID: id, TaskType: "test", Input: json.RawMessage(`{"n":1}`)}
}

// task creates one of alice's.
func (w *world) task(t *testing.T) engine.Task {
	t.Helper()
	res, err := w.Create(context.Background(), alice, request(fmt.Sprintf("r-%d", requests.Add(1))))
	if err != nil {
		t.Fatal(err)
	}
	return res.Task
}

var requests atomic.Int64

func (w *world) open(t *testing.T, task engine.Task) *engine.Run {
	t.Helper()
	run, err := w.Emitter().Open(context.Background(), task)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// emit stores events on a task, one append each.
func (w *world) emit(t *testing.T, task engine.Task, payloads ...engine.Payload) []engine.Event {
	t.Helper()
	run := w.open(t, task)
	defer run.Close(context.Background())
	for _, p := range payloads {
		if err := run.Emit(context.Background(), p); err != nil {
			t.Fatalf("emit %+v: %v", p, err)
		}
	}
	return w.events(t, task.ID)
}

// events is the whole log, as far as it is retained.
func (w *world) events(t *testing.T, id string) []engine.Event {
	t.Helper()
	page, err := w.store.Store.Read(context.Background(), id, engine.EventID{}, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

func types(events []engine.Event) (out []string) {
	for _, ev := range events {
		word := string(ev.Type)[len("TASK_"):]
		if strings.Contains(string(ev.Payload), `"restarts":`) {
			word = "RE" + word
		}
		out = append(out, word)
	}
	return out
}

func file(name, contentType, content string) engine.File {
	return engine.File{
		Name: name, ContentType: contentType, Size: int64(len(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte(content))), nil },
	}
}

func wantCode(t *testing.T, err error, code engine.Code) *engine.Error {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	return e
}
