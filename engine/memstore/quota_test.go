package memstore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// createFor creates a task of a subject with an input of n bytes.
func (b *bench) createFor(subject string, n int) (string, error) {
	task, _, err := b.Create(b.Context(), engine.Task{
		Owner: subject, ClientRequestID: fmt.Sprint(b.n.Add(1)), Status: engine.StatusAccepted, Input: make([]byte, n),
	})
	return task.ID, err
}

func (b *bench) mustCreateFor(subject string, n int) string {
	b.Helper()
	id, err := b.createFor(subject, n)
	if err != nil {
		b.Fatalf("a task of %s: %v", subject, err)
	}
	return id
}

// openWithDefaults keeps the default shares of a subject.
func openWithDefaults(t *testing.T, cfg Config) *bench {
	t.Helper()
	cfg = cfg.withDefaults()
	return open(t, cfg)
}

func wantSubjectFull(t *testing.T, err error) {
	t.Helper()
	if engine.CodeOf(err) != engine.CodeRateLimited {
		t.Errorf("beyond a subject's share: got %v, want RATE_LIMITED", err)
	}
}

// One subject's finished tasks take the place of its own, and never of another's.
func TestOneSubjectEvictsNobodyElse(t *testing.T) {
	const limit = 1 << 20
	b := openWithDefaults(t, Config{MaxBytes: limit})
	honest := b.mustCreateFor("honest", 100)
	b.message(honest, 1000)
	b.finish(honest)
	for range 255 {
		id := b.mustCreateFor("greedy", limit/64)
		b.finish(id)
		if n := b.usage.bytes.Load(); n > limit/2+10_000 {
			t.Fatalf("%d bytes are held, want at most half of %d and the honest task", n, limit)
		}
	}
	if !b.known(honest) {
		t.Error("the honest subject's result is gone")
	}
	if p := b.read(honest); len(p.Events) != 2 {
		t.Errorf("its log has %d events, want 2", len(p.Events))
	}
}

// Open tasks cannot be erased: a subject is refused beyond its share, and others
// are not.
func TestOneSubjectLeavesRoom(t *testing.T) {
	b := openWithDefaults(t, Config{MaxTasks: 8, MaxBytes: 1 << 20})
	for range 4 {
		b.mustCreateFor("greedy", 10)
	}
	_, err := b.createFor("greedy", 10)
	wantSubjectFull(t, err)
	first := b.mustCreateFor("honest", 10)
	_, err = b.createFor("large", 600<<10)
	wantSubjectFull(t, err)
	b.mustCreateFor("large", 400<<10)
	_, err = b.createFor("large", 200<<10)
	wantSubjectFull(t, err)
	b.finish(first)
	for range 2 {
		b.mustCreateFor("honest", 10)
	}
	if !b.known(first) {
		t.Error("an honest task went though there was room")
	}
}

// What one subject's task appends beyond its share costs its own events.
func TestAppendsBeyondAShareTrimTheirOwn(t *testing.T) {
	const limit = 200_000
	b := openWithDefaults(t, Config{MaxBytes: limit})
	honest := b.mustCreateFor("honest", 100)
	b.message(honest, 50_000)
	b.finish(honest)
	old := b.mustCreateFor("greedy", 10)
	b.finish(old)
	busy := b.mustCreateFor("greedy", 10)
	for range 100 {
		b.message(busy, 10_000)
	}
	if !b.known(honest) || b.known(old) {
		t.Errorf("known are honest %v, the subject's own finished one %v; want true, false", b.known(honest), b.known(old))
	}
	if p := b.read(busy); p.First.Ordinal == 1 || len(p.Events) < 5 {
		t.Errorf("its log runs from %s to %s", p.First, p.Last)
	}
}

// When the whole store is full, those who hold most give way first.
func TestWhoHoldsMostGivesWay(t *testing.T) {
	b := open(t, Config{MaxBytes: 1 << 20})
	small := b.mustCreateFor("small", 2000)
	b.finish(small)
	var large []string
	for i := range 8 {
		large = append(large, b.mustCreateFor(fmt.Sprint("large", i%2), 90_000))
		b.finish(large[i])
	}
	for range 4 {
		b.mustCreateFor("newcomer", 100_000)
	}
	if !b.known(small) {
		t.Error("the subject that holds least gave way")
	}
	if b.known(large[0]) || !b.known(large[7]) {
		t.Errorf("known are the first of the large ones %v and the last %v; want false, true", b.known(large[0]), b.known(large[7]))
	}
}

// Whatever happens at once, the accounts add up, and are gone with the tasks.
func TestAccountsAddUp(t *testing.T) {
	b := openWithDefaults(t, Config{MaxTasks: 40, MaxBytes: 400_000})
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 4))
			for range 300 {
				id, err := b.createFor(fmt.Sprint("subject ", rng.IntN(5)), rng.IntN(20_000))
				if err != nil {
					continue
				}
				for range rng.IntN(4) {
					_, _ = b.Append(t.Context(), engine.Append{TaskID: id, Token: fmt.Sprint(b.n.Add(1)), Events: []engine.Draft{
						{Type: engine.TypeMessage, Payload: []byte(`{"message":"` + strings.Repeat("x", rng.IntN(5000)) + `"}`)},
					}})
				}
				switch rng.IntN(4) {
				case 0:
					_ = b.Erase(t.Context(), id)
				default:
					_, _ = b.Append(t.Context(), engine.Append{TaskID: id, Token: fmt.Sprint(b.n.Add(1)), Events: []engine.Draft{
						{Type: engine.TypeCompleted, Payload: []byte(`{"result":1}`)},
					}})
				}
			}
		})
	}
	group.Wait()
	var tasks, bytes int64
	b.usage.mu.Lock()
	for _, a := range b.usage.accounts {
		tasks += a.tasks.Load()
		bytes += a.bytes.Load()
		if a.class != sizeClass(a.bytes.Load()) {
			t.Errorf("%s holds %d bytes and is in class %d", a.owner, a.bytes.Load(), a.class)
		}
	}
	b.usage.mu.Unlock()
	if tasks != b.usage.tasks.Load() || bytes != b.usage.bytes.Load() {
		t.Errorf("the accounts have %d tasks and %d bytes, want %d and %d", tasks, bytes, b.usage.tasks.Load(), b.usage.bytes.Load())
	}
	b.tasks.Range(func(id, _ any) bool { _ = b.Erase(t.Context(), id.(string)); return true })
	b.wantEmpty()
}
