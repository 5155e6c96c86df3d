package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
)

// cutStore is a log in any state that a trim, an expiry or a failover can leave
// it in; memstore never gets into most of them. between runs before each Read.
type cutStore struct {
	Store
	log     []Event
	task    Task
	expired bool
	between func(*cutStore)
	reads   int
}

func (s *cutStore) Read(_ context.Context, _ string, after EventID, limit int) (Page, error) {
	s.reads++
	if s.between != nil {
		s.between(s)
	}
	if s.expired {
		return Page{Expired: true}, nil
	}
	return readPage(s.log, after, limit), nil
}

func (s *cutStore) Get(context.Context, string, Freshness) (Task, error) { return s.task, nil }

func lookAt(s *cutStore) *Engine { return &Engine{cfg: Config{Store: s}.withDefaults()} }

// TestLookDelivers follows every kind of cursor through every kind of log to
// its end, page by page, as a client does: after at most one gap at the door it
// gets the rest of the log exactly, and a position that it is given holds.
func TestLookDelivers(t *testing.T) {
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 20_000 {
		var millis []uint64
		for range rnd.IntN(8) {
			millis = append(millis, max(1, slices.Max(append(millis, 1)))+rnd.Uint64N(3))
		}
		all := logOf(0, millis...)
		s := &cutStore{task: Task{ID: "t"}}
		gone := 0
		if len(all) > 0 {
			gone = rnd.IntN(len(all))
			if rnd.IntN(2) == 0 {
				all[len(all)-1].Type = TypeCompleted
				s.task.Status, s.task.Terminal = StatusCompleted, &all[len(all)-1]
				if rnd.IntN(4) == 0 {
					s.expired, gone = true, len(all)-1
				}
			}
		}
		s.log = all[gone:]
		cursor := EventID{rnd.Uint64N(20), rnd.Uint64N(10)}
		if rnd.IntN(3) == 0 && len(all) > 0 {
			cursor = all[rnd.IntN(len(all))].ID
		}
		e := lookAt(s)
		task := s.task
		if rnd.IntN(2) == 0 {
			task.Terminal = nil // a cached record may not know yet
		}

		fail := func(format string, args ...any) {
			t.Helper()
			t.Logf("round %d: log %v, of which %d are gone, expired %v, cursor %v", round, ids(all), gone, s.expired, cursor)
			t.Fatalf(format, args...)
		}
		limit := 1 + rnd.IntN(4)
		v, err := e.look(ctx, task, cursor, limit, 0)
		if err != nil {
			fail("%v", err)
		}
		if v.over {
			if s.task.Terminal == nil || cursor.Compare(s.task.Terminal.ID) < 0 || v.gap != nil || len(v.events) > 0 {
				fail("over: %+v", v)
			}
			continue
		}
		want := cursor.Ordinal + 1
		if v.gap != nil || cursor.Ordinal == 0 {
			want = v.position.Ordinal + 1
		}
		if v.gap != nil && len(v.events) > 0 && v.gap.First != v.events[0].ID {
			fail("the gap ends at %v and delivery goes on with %v", v.gap.First, v.events[0].ID)
		}
		if s.expired && v.gap != nil && v.gap.Reason == GapTrimmed {
			fail("an expired log is called trimmed")
		}
		if again, err := e.look(ctx, task, v.position, limit, 0); err != nil || again.gap != nil && v.position != (EventID{}) ||
			again.position != v.position || !slices.EqualFunc(again.events, v.events, sameID) {
			fail("position %v does not hold: %+v, then %+v", v.position, v, again)
		}
		for {
			for _, ev := range v.events {
				if ev.ID.Ordinal != want {
					fail("got %v where %d was due", ev.ID, want)
				}
				want++
			}
			if !v.more {
				break
			}
			if v, err = e.look(ctx, task, v.events[len(v.events)-1].ID, limit, 0); err != nil || v.gap != nil {
				fail("the next page: %+v, %v", v, err)
			}
		}
		if want != uint64(len(all))+1 {
			fail("delivery ended before %d of %d", want, len(all))
		}
	}
}

func sameID(a, b Event) bool { return a.ID == b.ID }

// A log that changes between the reads of one look must not make it silent.
func TestLookWhileTheLogChanges(t *testing.T) {
	ctx := context.Background()
	cursor := EventID{25, 0} // a position in time: found by reading twice
	full := logOf(0, 10, 20, 30, 40, 50)
	for _, c := range []struct {
		name  string
		after func(s *cutStore)
		want  GapReason
		next  uint64
	}{
		{"nothing happens", func(*cutStore) {}, "", 3},
		{"trimmed under the reader", func(s *cutStore) { s.log = full[3:] }, GapTrimmed, 4},
		{"lost its tail", func(s *cutStore) { s.log = full[:1] }, GapAhead, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &cutStore{task: Task{ID: "t"}, log: full}
			s.between = func(s *cutStore) {
				if s.reads > 1 {
					c.after(s)
				}
			}
			v, err := lookAt(s).look(ctx, s.task, cursor, 10, 0)
			if err != nil {
				t.Fatal(err)
			}
			reason := GapReason("")
			if v.gap != nil {
				reason = v.gap.Reason
			}
			if reason != c.want || v.position.Ordinal+1 != c.next {
				t.Errorf("gap %q, going on with %d; want %q, %d", reason, v.position.Ordinal+1, c.want, c.next)
			}
		})
	}
}

// The task ends between the page and the record: the terminal event must not
// be passed over.
func TestLookSeesTheEndThatCameBetween(t *testing.T) {
	log := logOf(0, 10, 20)
	terminal := Event{ID: EventID{30, 3}, Type: TypeCompleted}
	s := &cutStore{task: Task{ID: "t", Status: StatusCompleted, Terminal: &terminal}, log: log}
	s.between = func(s *cutStore) {
		if s.reads > 1 {
			s.log = append(log[:2:2], terminal)
		}
	}
	v, err := lookAt(s).look(context.Background(), Task{ID: "t", Status: StatusRunning}, EventID{20, 2}, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.events) != 1 || v.events[0].ID != terminal.ID || v.over || v.status() != StatusCompleted {
		t.Errorf("%+v", v)
	}
}

// The search goes over as many pages as it takes.
func TestLookSearchesLongLogs(t *testing.T) {
	millis := make([]uint64, 3*scanEvents)
	for i := range millis {
		millis[i] = uint64(10 * (i + 1))
	}
	for _, gone := range []int{0, 700} {
		all := logOf(0, millis...)
		s := &cutStore{task: Task{ID: "t"}, log: all[gone:]}
		e := lookAt(s)
		for _, c := range []struct {
			cursor EventID
			want   uint64 // the first event delivered
		}{
			{EventID{13_005, 0}, 1301},
			{EventID{13_005, 1400}, 1301},
			{EventID{99_999, 1200}, 1200},
			{EventID{99_999, 800}, 800},
			{EventID{99_999, 3}, max(3, uint64(gone)+1)},
			{EventID{99_999, 700}, max(700, uint64(gone)+1)},
		} {
			v, err := e.look(context.Background(), s.task, c.cursor, 10, 0)
			if err != nil || len(v.events) != 10 || v.events[0].ID != all[c.want-1].ID || !v.more || v.position.Ordinal != c.want-1 {
				t.Errorf("%v, %d gone: %+v, %v", c.cursor, gone, v, err)
			}
		}
	}
}
