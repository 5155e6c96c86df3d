package memstore

import (
	"cmp"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/internal/sidebyside"
)

// suiteAtOnce tests of the store suite run: they wait for leases and due times.
const suiteAtOnce = 8

func TestMain(m *testing.M) {
	sidebyside.Tests(suiteAtOnce)
	goleak.VerifyTestMain(m)
}

// bench is a store and short words for what tests do with it.
type bench struct {
	testing.TB
	*Store
	n atomic.Int64
}

// open opens a store whose bounds are one subject's to use, unless cfg says
// otherwise.
func open(t testing.TB, cfg Config) *bench {
	t.Helper()
	cfg.MaxTasksPerSubject = cmp.Or(cfg.MaxTasksPerSubject, -1)
	cfg.MaxBytesPerSubject = cmp.Or(cfg.MaxBytesPerSubject, -1)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &bench{TB: t, Store: s}
}

func (b *bench) tryCreate() (engine.Task, error) {
	task, _, err := b.Create(b.Context(), engine.Task{
		Owner: "ann", ClientRequestID: fmt.Sprint(b.n.Add(1)), Status: engine.StatusAccepted,
	})
	return task, err
}

func (b *bench) create() engine.Task {
	b.Helper()
	task, err := b.tryCreate()
	if err != nil {
		b.Fatal(err)
	}
	return task
}

func (b *bench) emit(taskID string, t engine.EventType, payload string) engine.EventID {
	b.Helper()
	ids, err := b.Append(b.Context(), engine.Append{
		TaskID: taskID, Token: fmt.Sprint(b.n.Add(1)), Events: []engine.Draft{{Type: t, Payload: []byte(payload)}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return ids[0]
}

func (b *bench) message(taskID string, size int) engine.EventID {
	b.Helper()
	return b.emit(taskID, engine.TypeMessage, `{"message":"`+strings.Repeat("x", size)+`"}`)
}

func (b *bench) finish(taskID string) {
	b.Helper()
	b.emit(taskID, engine.TypeCompleted, `{"result":1}`)
}

func (b *bench) read(taskID string) engine.Page {
	b.Helper()
	p, err := b.Read(b.Context(), taskID, engine.EventID{}, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func (b *bench) known(taskID string) bool {
	b.Helper()
	_, err := b.Get(b.Context(), taskID, engine.Fresh)
	if code := engine.CodeOf(err); code != "" && code != engine.CodeTaskNotFound {
		b.Fatal(err)
	}
	return err == nil
}

// wantEmpty fails unless the store's accounts are back at nothing.
func (b *bench) wantEmpty() {
	b.Helper()
	if tasks, bytes := b.usage.tasks.Load(), b.usage.bytes.Load(); tasks != 0 || bytes != 0 {
		b.Errorf("an empty store counts %d tasks, %d bytes", tasks, bytes)
	}
	b.usage.mu.Lock()
	defer b.usage.mu.Unlock()
	if n := len(b.usage.accounts); n != 0 {
		b.Errorf("an empty store has %d accounts", n)
	}
	for class := range b.usage.classes {
		if n := b.usage.classes[class].Len(); n != 0 {
			b.Errorf("an empty store lists %d accounts of class %d", n, class)
		}
	}
	for name, m := range map[string]interface{ Range(func(k, v any) bool) }{"tasks": &b.tasks, "index": &b.index} {
		m.Range(func(k, _ any) bool { b.Errorf("%s still has %v", name, k); return true })
	}
}

// tally is a follower that counts.
type tally struct{ pushed, lost atomic.Int64 }

func (c *tally) Push(events []engine.Event) { c.pushed.Add(int64(len(events))) }
func (c *tally) Lost()                      { c.lost.Add(1) }

func (b *bench) follow(taskID string) (*tally, func()) {
	b.Helper()
	c := &tally{}
	stop, err := b.Follow(b.Context(), taskID, engine.EventID{}, c)
	if err != nil {
		b.Fatal(err)
	}
	return c, stop
}
