package rueidisstore

import (
	"fmt"
	"slices"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// Pages of more entries than one round trip brings, and of entries with many
// events: every cursor and limit give what they should.
func TestLongPages(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxStreamLength = 10_000
	b := open(t, cfg)
	task := b.create()
	var all []engine.EventID
	for i := range 3 * firstEntries {
		all = append(all, b.append(task.ID, slices.Repeat([]engine.Draft{message("m")}, 1+i%7/6*9)...)...)
	}
	n := len(all)
	for _, from := range []int{0, 1, 5, 6, 7, firstEntries - 1, firstEntries, firstEntries + 1, n / 2, n - 1, n} {
		for _, limit := range []int{1, 2, firstEntries - 1, firstEntries, firstEntries + 1, 2 * firstEntries, n - from - 1, n - from, n, 1 << 20} {
			if limit < 1 {
				continue
			}
			var cursor engine.EventID
			if from > 0 {
				cursor = all[from-1]
			}
			p := b.read(task.ID, cursor, limit)
			end := min(from+limit, n)
			var got []engine.EventID
			for _, ev := range p.Events {
				got = append(got, ev.ID)
			}
			if !slices.Equal(got, all[from:end]) || p.More != (end < n && from < n) || p.Last != all[n-1] || p.First != all[0] || p.Found != (from > 0) {
				t.Fatalf("after %d, limit %d: %d events, want %d, more %v, found %v", from, limit, len(got), end-from, p.More, p.Found)
			}
		}
	}
}

// A writer, a trimmer and readers at once: a page is dense, and joins on to its
// cursor or begins at what is oldest.
func TestReadWhileTrimmed(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxStreamLength = 100
	b := open(t, cfg)
	task := b.create()
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 3000 && err == nil; i++ {
			_, err = b.try(task.ID, message(fmt.Sprint(i)), message("x"))
		}
		done <- err
	}()
	var cursor engine.EventID
	for {
		p := b.read(task.ID, cursor, 500)
		for i, ev := range p.Events {
			if ev.ID.Ordinal != p.Events[0].ID.Ordinal+uint64(i) {
				t.Fatalf("a hole in a page at %s", ev.ID)
			}
		}
		if len(p.Events) > 0 {
			if p.First.Ordinal <= cursor.Ordinal+1 && p.Events[0].ID.Ordinal != cursor.Ordinal+1 {
				t.Fatalf("after %s the page begins with %s, though %s is there", cursor, p.Events[0].ID, p.First)
			}
			cursor = p.Events[len(p.Events)-1].ID
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

func TestDamagedLog(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	b.append(task.ID, message("m"))
	if err := b.do("XADD", b.keys.log(task.ID), "*", "b", "\x09\x01").Error(); err != nil {
		t.Fatal(err)
	}
	_, err := b.Read(t.Context(), task.ID, engine.EventID{}, 10)
	b.wantCode("Read of a batch of another format", err, engine.CodeInternal)
	b.int("DEL", b.keys.log(task.ID))
	b.int("LPUSH", b.keys.log(task.ID), "x")
	_, err = b.Read(t.Context(), task.ID, engine.EventID{}, 10)
	b.wantCode("Read of a key of another type", err, engine.CodeInternal)
}

// Config.Wait in a Cluster, where WAIT has no key that says which node to ask.
func TestWaitOnCluster(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cluster := redistest.Cluster(t)
	cfg.Redis.InitAddress = cluster.Addrs()
	cfg.Wait = WaitConfig{Replicas: 1, Timeout: 1e8}
	s := MustNew(t, cfg)
	defer s.Close()
	for i := range 20 {
		task, _, err := s.Create(t.Context(), engine.Task{Owner: "o", ClientRequestID: fmt.Sprint(i), Status: engine.StatusAccepted})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Append(t.Context(), engine.Append{TaskID: task.ID, Token: "t", Events: []engine.Draft{completed()}})
		if engine.CodeOf(err) != engine.CodeStoreUnavailable {
			t.Fatalf("Append gave %v", err)
		}
		if got, err := s.Get(t.Context(), task.ID, engine.Fresh); err != nil || got.Terminal == nil {
			t.Errorf("it was not stored: %+v, %v", got, err)
		}
	}
}
