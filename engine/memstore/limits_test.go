package memstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func wantFull(t *testing.T, err error) {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.CodeStoreUnavailable || e.RetryAfter <= 0 {
		t.Errorf("a full store gave %v", err)
	}
}

func TestConfigErrors(t *testing.T) {
	for field, cfg := range map[string]Config{
		"MaxStreamLength": {MaxStreamLength: -1}, "MaxStreamBytes": {MaxStreamBytes: -1}, "MaxTasks": {MaxTasks: -1},
		"MaxBytes": {MaxBytes: -1}, "StreamTTL": {StreamTTL: -1}, "RecordTTL": {RecordTTL: -1},
		"MaxOpenAge": {MaxOpenAge: -1}, "CleanupInterval": {CleanupInterval: -1},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "Config."+field+" ") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

func TestMaxTasks(t *testing.T) {
	b := open(t, Config{MaxTasks: 4})
	tasks := []engine.Task{b.create(), b.create(), b.create(), b.create()}
	_, err := b.tryCreate()
	wantFull(t, err)
	if again, created, err := b.Create(t.Context(), tasks[0]); err != nil || created || again.ID != tasks[0].ID {
		t.Errorf("a repeat on a full store gave %s, created %v, %v", again.ID, created, err)
	}

	// The first to end goes first, whatever its age.
	c, stop := b.follow(tasks[2].ID)
	defer stop()
	for _, i := range []int{2, 0} {
		b.finish(tasks[i].ID)
	}
	for n, left := range []string{"1101", "0101"} {
		b.create()
		for i, task := range tasks {
			if b.known(task.ID) != (left[i] == '1') {
				t.Errorf("after %d more: task %d is known: %v", n+1, i, b.known(task.ID))
			}
		}
	}
	if c.lost.Load() != 1 || c.pushed.Load() != 1 {
		t.Errorf("a follower of an evicted task got %d events, %d losses", c.pushed.Load(), c.lost.Load())
	}
	_, err = b.tryCreate()
	wantFull(t, err)
	if n := b.usage.tasks.Load(); n != 4 {
		t.Errorf("it counts %d tasks", n)
	}
}

func TestMaxTasksRace(t *testing.T) {
	const places, callers = 10, 60
	b := open(t, Config{MaxTasks: places})
	var group sync.WaitGroup
	var won atomic.Int32
	for range callers {
		group.Go(func() {
			if _, err := b.tryCreate(); err == nil {
				won.Add(1)
			} else {
				wantFull(t, err)
			}
		})
	}
	group.Wait()
	if won.Load() != places || b.usage.tasks.Load() != places {
		t.Errorf("%d creates, %d counted, want %d", won.Load(), b.usage.tasks.Load(), places)
	}
}

// Equal creates at once, with one place left, are still one task.
func TestLastPlaceRace(t *testing.T) {
	for range 50 {
		b := open(t, Config{MaxTasks: 1})
		var group sync.WaitGroup
		var ids [20]string
		for i := range ids {
			group.Go(func() {
				task, _, err := b.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: "r"})
				if ids[i] = task.ID; err != nil && engine.CodeOf(err) != engine.CodeStoreUnavailable {
					t.Error(err)
				}
			})
		}
		group.Wait()
		task, err := b.Lookup(t.Context(), "o", "r")
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if id != "" && id != task.ID {
				t.Fatalf("two tasks: %s and %s", id, task.ID)
			}
		}
		_ = b.Close()
	}
}

func TestMaxStreamLength(t *testing.T) {
	b := open(t, Config{MaxStreamLength: 10})
	id := b.create().ID
	for n := range 25 {
		b.message(id, 1)
		if p := b.read(id); len(p.Events) != min(n+1, 10) || p.Last.Ordinal != uint64(n+1) {
			t.Fatalf("after %d events %d are retained, to %s", n+1, len(p.Events), p.Last)
		}
	}
	batch := make([]engine.Draft, 25)
	for i := range batch {
		batch[i] = engine.Draft{Type: engine.TypeMessage, Payload: []byte(`{"message":"m"}`)}
	}
	if _, err := b.Append(t.Context(), engine.Append{TaskID: id, Token: "batch", Events: batch}); err != nil {
		t.Fatal(err)
	}
	if p := b.read(id); len(p.Events) != 10 || p.First.Ordinal != 41 || p.Last.Ordinal != 50 {
		t.Errorf("after a batch larger than the limit: %d events, %s to %s", len(p.Events), p.First, p.Last)
	}
}

func TestMaxStreamBytes(t *testing.T) {
	b := open(t, Config{MaxStreamBytes: 10_000})
	id := b.create().ID
	for range 100 {
		b.message(id, 1000)
	}
	if n := len(b.read(id).Events); n < 5 || n > 9 {
		t.Errorf("%d events of 1 kB are retained in 10 kB", n)
	}
	last := b.message(id, 50_000)
	if p := b.read(id); len(p.Events) != 1 || p.First != last {
		t.Errorf("after an event that is larger than the limit: %d events", len(p.Events))
	}
	b.finish(id)
	if p := b.read(id); len(p.Events) != 1 || !p.Events[0].Type.Terminal() {
		t.Errorf("after the terminal event: %d events", len(p.Events))
	}
}

func TestMaxBytes(t *testing.T) {
	const limit = 200_000
	b := open(t, Config{MaxBytes: limit})
	old, young, busy := b.create().ID, b.create().ID, b.create().ID
	for _, id := range []string{old, young} {
		b.message(id, 50_000)
		b.finish(id)
	}
	c, stop := b.follow(busy)
	defer stop()
	sent := int64(0)
	send := func() { b.message(busy, 10_000); sent++ }
	for b.known(old) {
		send()
	}
	if !b.known(young) {
		t.Error("more was evicted than was needed")
	}
	for b.known(young) {
		send()
	}
	if p := b.read(busy); p.First.Ordinal != 1 {
		t.Error("it was trimmed while finished tasks were left")
	}
	// Now all are open: the one that appends pays, and is never refused.
	for range 100 {
		send()
		if n := b.usage.bytes.Load(); n > limit {
			t.Fatalf("%d bytes are held", n)
		}
	}
	if p := b.read(busy); p.First.Ordinal == 1 || p.Last.Ordinal != uint64(sent) || len(p.Events) < 10 {
		t.Errorf("its log runs from %s to %s", p.First, p.Last)
	}
	if c.lost.Load() != 0 || c.pushed.Load() != sent {
		t.Errorf("its follower got %d of %d events, %d losses", c.pushed.Load(), sent, c.lost.Load())
	}
	_, _, err := b.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: "large", Input: make([]byte, 50_000)})
	wantFull(t, err)
	b.finish(busy)
}

// A task that is larger than the whole store ends like any other.
func TestMaxBytesSparesTheAppender(t *testing.T) {
	b := open(t, Config{MaxBytes: 20_000})
	id := b.create().ID
	b.message(id, 50_000)
	b.emit(id, engine.TypeCompleted, `{"result":"`+strings.Repeat("x", 50_000)+`"}`)
	if !b.known(id) {
		t.Fatal("it was evicted by its own last event")
	}
	if p := b.read(id); len(p.Events) != 1 || !p.Events[0].Type.Terminal() {
		t.Errorf("its log has %d events", len(p.Events))
	}
	b.create() // now it makes room
	if b.known(id) {
		t.Error("it stays though it is over")
	}
}

func TestAttachmentBytes(t *testing.T) {
	const limit = 100_000
	b := open(t, Config{MaxBytes: limit})
	before := b.usage.bytes.Load()
	_, err := b.Put(t.Context(), "a", "", bytes.NewReader(make([]byte, limit+1)))
	wantFull(t, err)
	if n := b.usage.bytes.Load(); n != before {
		t.Errorf("a refused upload left %d bytes", n-before)
	}
	a, err := b.Put(t.Context(), "a", "", bytes.NewReader(make([]byte, 60_000)))
	if err != nil {
		t.Fatal(err)
	}
	task, _, err := b.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: "r", Attachments: []engine.Attachment{a}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Put(t.Context(), "b", "", bytes.NewReader(make([]byte, 60_000)))
	wantFull(t, err)
	b.finish(task.ID) // now it may make room
	second, err := b.Put(t.Context(), "b", "", bytes.NewReader(make([]byte, 60_000)))
	if err != nil || b.known(task.ID) {
		t.Errorf("with a finished task to evict: %v; it is known: %v", err, b.known(task.ID))
	}
	if err := b.Delete(t.Context(), second); err != nil {
		t.Error(err)
	}
	b.wantEmpty()
}

// faithful is an AttachmentStore that minds its context, as a remote one does.
type faithful struct {
	engine.AttachmentStore
	deleted []string
}

func (f *faithful) Delete(ctx context.Context, a engine.Attachment) error {
	if ctx.Err() == nil {
		f.deleted = append(f.deleted, a.Ref)
	}
	return ctx.Err()
}

// Who asked for it may have gone; the files go all the same.
func TestEraseDeletesFilesEvenSo(t *testing.T) {
	files := &faithful{}
	b := open(t, Config{Attachments: files})
	task, _, err := b.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: "r", Attachments: []engine.Attachment{{Ref: "1"}, {Ref: "2"}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Erase(ctx, task.ID); err != nil || len(files.deleted) != 2 {
		t.Errorf("deleted %v, %v", files.deleted, err)
	}
}

// Whatever was done to a store, when all is erased nothing is counted.
func TestAccounts(t *testing.T) {
	for seed := range uint64(20) {
		b := open(t, Config{MaxTasks: 20, MaxBytes: 150_000, MaxStreamLength: 30, MaxStreamBytes: 30_000})
		var group sync.WaitGroup
		for w := range uint64(4) {
			group.Go(func() {
				r := rand.New(rand.NewPCG(seed, w))
				var ids []string
				for i := range 300 {
					if len(ids) == 0 || r.IntN(8) == 0 {
						if task, err := b.tryCreate(); err == nil {
							ids = append(ids, task.ID)
						}
						continue
					}
					id := ids[r.IntN(len(ids))]
					var drafts []engine.Draft
					for range 1 + r.IntN(3) {
						s := fmt.Sprint(r.IntN(3))
						drafts = append(drafts, []engine.Draft{
							{Type: engine.TypeStarted, Payload: []byte(`{}`)},
							{Type: engine.TypeMessage, Payload: []byte(strings.Repeat("x", r.IntN(5000)))},
							{Type: engine.TypeSuspended, Payload: []byte(`{"suspendId":"` + s + `","allowedActions":["a"]}`)},
							{Type: engine.TypeActionAccepted, Payload: []byte(`{"suspendId":"` + s + `"}`)},
						}[r.IntN(4)])
					}
					switch r.IntN(30) {
					case 0:
						drafts = append(drafts, engine.Draft{Type: engine.TypeFailed, Payload: []byte(`{"code":"c"}`)})
					case 1:
						_, _ = b.RequestCancel(t.Context(), id, "reason")
					case 2:
						_ = b.Erase(t.Context(), id)
					case 3:
						b.sweep()
					}
					_, _ = b.Append(t.Context(), engine.Append{TaskID: id, Token: fmt.Sprint(w, i/2), Events: drafts})
				}
			})
		}
		group.Wait()
		b.tasks.Range(func(id, _ any) bool {
			if err := b.Erase(t.Context(), id.(string)); err != nil {
				t.Error(err)
			}
			return true
		})
		b.wantEmpty()
		_ = b.Close()
	}
}
