package rueidisstore

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func openShared(t *testing.T, c SubjectConfig) *bench {
	t.Helper()
	cfg := testConfig(t)
	cfg.Subjects = c
	return open(t, cfg)
}

func (b *bench) createFor(owner, request string, input int) (engine.Task, error) {
	now := toMicros(time.Now())
	task, _, err := b.Create(b.Context(), engine.Task{
		Owner: owner, ClientRequestID: request, Type: "t", Status: engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
		Input: []byte(`{"x":"` + strings.Repeat("x", input) + `"}`),
	})
	return task, err
}

func (b *bench) heldBy(owner string) (tasks, bytes int64) {
	key := b.held(owner)
	tasks = max(b.int("HLEN", key)-1, 0)
	if tasks == 0 {
		return 0, 0
	}
	return tasks, b.int("HGET", key, "")
}

func TestSubjectsTasksAreBounded(t *testing.T) {
	t.Parallel()
	b := openShared(t, SubjectConfig{MaxTasks: 3})
	var ids []string
	for i := range 3 {
		task, err := b.createFor("greedy", fmt.Sprint(i), 10)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, task.ID)
	}
	if _, err := b.createFor("greedy", "one too many", 10); engine.CodeOf(err) != engine.CodeRateLimited {
		t.Errorf("one too many: got %v, want RATE_LIMITED", err)
	}
	if again, err := b.createFor("greedy", "1", 10); err != nil || again.ID != ids[1] {
		t.Errorf("a repeat: got %q, %v, want %q", again.ID, err, ids[1])
	}
	if tasks, _ := b.heldBy("greedy"); tasks != 3 {
		t.Errorf("%d tasks are counted, want 3", tasks)
	}
	if _, err := b.createFor("honest", "1", 10); err != nil {
		t.Errorf("another subject: %v", err)
	}
}

// Tasks that are gone give their share back once somebody asks for it, however
// they went.
func TestSubjectsShareComesBack(t *testing.T) {
	t.Parallel()
	b := openShared(t, SubjectConfig{MaxTasks: 2})
	for i := range 2 {
		task, err := b.createFor("ann", fmt.Sprint(i), 10)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := b.Erase(t.Context(), task.ID); err != nil {
				t.Fatal(err)
			}
		} else {
			b.int("DEL", b.keys.task(task.ID)) // as an expiry or an eviction does
		}
		// Counted more than createMargin ago, or it may be about to be created.
		b.int("HSET", b.held("ann"), task.ID, fmt.Sprint(keysOverhead, " ", time.Now().Add(-2*createMargin).UnixMilli()))
	}
	if _, err := b.createFor("ann", "new", 10); err != nil {
		t.Errorf("after both are gone: %v", err)
	}
	if tasks, bytes := b.heldBy("ann"); tasks != 1 || bytes <= 0 || bytes > 3*keysOverhead {
		t.Errorf("%d tasks and %d bytes are counted, want one small task", tasks, bytes)
	}
}

// A log that grew counts as soon as the share is asked about.
func TestSubjectsBytesAreBounded(t *testing.T) {
	t.Parallel()
	b := openShared(t, SubjectConfig{MaxBytes: 300 << 10})
	if _, err := b.createFor("ann", "large", 400<<10); engine.CodeOf(err) != engine.CodeRateLimited {
		t.Errorf("a task beyond the bound: got %v, want RATE_LIMITED", err)
	}
	task, err := b.createFor("ann", "small", 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := b.Append(t.Context(), engine.Append{
			TaskID: task.ID, Token: fmt.Sprint(i), Events: []engine.Draft{message(strings.Repeat("x", 10<<10))},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.recount(t.Context(), b.held("ann")); err != nil {
		t.Fatal(err)
	}
	if _, bytes := b.heldBy("ann"); bytes < 200<<10 {
		t.Errorf("%d bytes are counted, want the log's 200 KiB as well", bytes)
	}
	if _, err := b.createFor("ann", "another", 150<<10); engine.CodeOf(err) != engine.CodeRateLimited {
		t.Errorf("beside a log that grew: got %v, want RATE_LIMITED", err)
	}
	if _, err := b.createFor("ann", "a little", 10); err != nil {
		t.Errorf("one that fits: %v", err)
	}
}

// Logs that grow are counted again after every recountEvery creates, also if the
// subject never has that many tasks at once.
func TestSubjectsGrowthIsNoticed(t *testing.T) {
	t.Parallel()
	b := openShared(t, SubjectConfig{MaxBytes: 100 << 20})
	kept, err := b.createFor("ann", "kept", 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(t.Context(), engine.Append{
		TaskID: kept.ID, Token: "1", Events: []engine.Draft{message(strings.Repeat("x", 200<<10))},
	}); err != nil {
		t.Fatal(err)
	}
	for i := range recountEvery {
		task, err := b.createFor("ann", fmt.Sprint(i), 10)
		if err != nil {
			t.Fatal(err)
		}
		b.giveShareBack(t.Context(), &task)
	}
	eventually(t, "the log's 200 KiB are counted", func() bool { _, bytes := b.heldBy("ann"); return bytes > 200<<10 })
}

// Of many creates at once no more than the bound are counted and created, and
// equal ones count once.
func TestSubjectsShareUnderARace(t *testing.T) {
	t.Parallel()
	const bound = 5
	b := openShared(t, SubjectConfig{MaxTasks: bound})
	var group sync.WaitGroup
	var made sync.Map
	var refused atomic.Int64
	for i := range 40 {
		group.Go(func() {
			task, err := b.createFor("ann", fmt.Sprint(i/2), 10)
			switch engine.CodeOf(err) {
			case "":
				made.Store(task.ID, true)
			case engine.CodeRateLimited:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	n := 0
	made.Range(func(any, any) bool { n++; return true })
	if tasks, _ := b.heldBy("ann"); n > bound || int64(n) != tasks || n == 0 || refused.Load() == 0 {
		t.Errorf("%d tasks are made, %d counted, %d creates refused; want at most %d, as many, and some", n, tasks, refused.Load(), bound)
	}
}
