package fiberbridge

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// wait joins a subject's requests that wait, and returns when it has.
func (t *turns) wait(ctx context.Context, subject string, done func(*turn, error)) {
	before := t.count()
	go func() {
		m := &turn{t: t, subject: subject}
		done(m, m.take(ctx, largeText))
	}()
	for t.count() == before {
		runtime.Gosched()
	}
}

func (t *turns) count() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, queue := range t.waiting {
		n += len(queue)
	}
	return n
}

func TestTurnsGoBySubject(t *testing.T) {
	all := newTurns()
	all.free = 1
	first := &turn{t: all, subject: "mallory"}
	if err := first.take(t.Context(), largeText); err != nil {
		t.Fatal(err)
	}
	var got []string
	var group sync.WaitGroup
	for _, subject := range []string{"mallory", "mallory", "mallory", "ada", "bob", "ada"} {
		group.Add(1)
		all.wait(t.Context(), subject, func(m *turn, err error) {
			defer group.Done()
			if err != nil {
				t.Error(err)
			}
			got = append(got, subject) // whoever has the turn is alone
			m.end()
		})
	}
	// A small one does not wait.
	small := &turn{t: all, subject: "mallory"}
	if err := small.take(t.Context(), largeText-1); err != nil {
		t.Error(err)
	}
	small.end()
	first.end()
	group.Wait()
	if want := []string{"mallory", "ada", "bob", "mallory", "ada", "mallory"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if all.free != 1 || len(all.waiting) != 0 || len(all.order) != 0 {
		t.Errorf("left: %+v", all)
	}
}

func TestTurnsEndWithTheirRequest(t *testing.T) {
	all := newTurns()
	all.free = 1
	first := &turn{t: all, subject: "ada"}
	if err := first.take(t.Context(), largeText); err != nil {
		t.Fatal(err)
	}
	if err := first.take(t.Context(), largeText); err != nil { // it has it already
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	refused, served := make(chan error), make(chan error)
	all.wait(ctx, "ada", func(m *turn, err error) { m.end(); refused <- err })
	all.wait(t.Context(), "bob", func(m *turn, err error) { m.end(); served <- err })
	all.wait(ctx, "ada", func(m *turn, err error) { m.end(); refused <- err })
	cancel()
	for range 2 {
		if err := <-refused; !errors.Is(err, engine.NewError(engine.CodeRateLimited, "")) {
			t.Errorf("%v", err)
		}
	}
	first.end()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if all.free != 1 || len(all.waiting) != 0 || len(all.order) != 0 {
		t.Errorf("left: %+v", all)
	}
}

// Requests that end while their turn comes neither keep it nor lose it.
func TestTurnsRace(t *testing.T) {
	all := newTurns()
	all.free = 2
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			if i%3 == 0 {
				go cancel()
			}
			defer cancel()
			m := &turn{t: all, subject: string(rune('a' + i%7))}
			_ = m.take(ctx, largeText)
			runtime.Gosched()
			m.end()
		})
	}
	group.Wait()
	if all.free != 2 || len(all.waiting) != 0 || len(all.order) != 0 {
		t.Errorf("left: %+v", all)
	}
}
