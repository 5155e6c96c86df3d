package rueidisstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

type files struct {
	mu      sync.Mutex
	deleted []string
	broken  bool
}

func (f *files) Delete(_ context.Context, a engine.Attachment) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return errors.New("the disk is away")
	}
	f.deleted = append(f.deleted, a.Ref)
	return nil
}

func (f *files) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.deleted
	f.deleted = nil
	slices.Sort(d)
	return d
}

// Files go with their tasks, whether erased or too old; not before, and not
// without being deleted.
func TestFilesGoWithTheirTasks(t *testing.T) {
	kept := &files{}
	cfg := testConfig(t)
	cfg.Attachments, cfg.StreamTTL, cfg.RecordTTL, cfg.MaxOpenAge = kept, time.Hour, time.Hour, 10*time.Hour
	b := open(t, cfg)
	create := func(name string, refs ...string) engine.Task {
		t.Helper()
		task := engine.Task{Owner: "ann", ClientRequestID: name, Type: "t", Status: engine.StatusAccepted, CreatedAt: time.Now(), UpdatedAt: time.Now()}
		for _, ref := range refs {
			task.Attachments = append(task.Attachments, engine.Attachment{Name: ref, Ref: ref})
		}
		task, _, err := b.Create(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		return task
	}
	want := func(what string, refs ...string) {
		t.Helper()
		if got := kept.take(); !slices.Equal(got, refs) {
			t.Errorf("%s: %v were deleted, want %v", what, got, refs)
		}
	}

	erased := create("erased", "a", "b")
	kept.broken = true
	b.wantCode("Erase", b.Erase(t.Context(), erased.ID), engine.CodeStoreUnavailable)
	b.get(erased.ID) // and is not forgotten
	kept.broken = false
	for range 2 {
		if err := b.Erase(t.Context(), erased.ID); err != nil {
			t.Fatal(err)
		}
	}
	want("Erase", "a", "b")

	ended, plain, open := create("ended", "c"), create("plain"), create("open", "d")
	b.append(ended.ID, completed())
	b.append(plain.ID, completed())
	b.applyOnce()
	b.pass(0)
	want("at the end")
	if !b.listed(ended.ID) || b.listed(plain.ID) {
		t.Error("what has files is looked at again, and nothing else")
	}
	if ttl := time.Duration(b.int("PTTL", b.keys.task(ended.ID))) * time.Millisecond; ttl < cfg.StreamTTL+cfg.RecordTTL+b.cfg.margin()/2 {
		t.Errorf("the record may be gone after %v, before maintenance has come", ttl)
	}
	b.pass(2*time.Hour - time.Minute)
	want("before its time")
	kept.broken = true
	b.pass(2*time.Hour + time.Minute)
	b.get(ended.ID)
	kept.broken = false
	b.pass(4 * time.Hour)
	want("at its time", "c")
	_, err := b.Get(t.Context(), ended.ID, engine.Fresh)
	b.wantCode("Get", err, engine.CodeTaskNotFound)

	// One that nobody ended.
	b.pass(11 * time.Hour)
	if got := b.get(open.ID); got.Terminal == nil {
		t.Fatal("it is open")
	}
	want("at its maximum age")
	b.pass(14 * time.Hour)
	want("after it", "d")
}
