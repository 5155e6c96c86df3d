package rueidisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
)

// patience bounds every wait for something that must happen, faults included.
const patience = 2 * time.Minute

var prefixes atomic.Int64

// trial is a service under load: one process that appends through the engine's
// Runs, with their retries, and others that follow, as raw followers of a store
// and as outlets of an engine's hub. The test does something to Redis; at the
// end everybody must hold what the store holds.
type trial struct {
	*testing.T

	cfg    rueidisstore.Config
	writer *engine.Engine
	reader *rueidisstore.Store // for raw followers
	hub    *engine.Engine      // for outlets

	loads     []*load
	followers []*witness
	outlets   []*outlet
	appending sync.WaitGroup
	stopped   chan struct{}
	stop      func() // ends the appends
}

// load is a task that is appended to.
type load struct {
	task engine.Task
	run  *engine.Run
	// acked is the last message that was stored for certain: messages count
	// from 1, and each has its number for text.
	acked atomic.Int64
	// quiet ones get their first event when the others end.
	quiet bool
	// burst messages are streamed, then flushed; 1 is a durable call each.
	burst int
}

// newTrial opens busy tasks and quiet ones, two followers of each, and starts
// to append to the busy ones.
func newTrial(t *testing.T, option rueidis.ClientOption, busy, quiet int) *trial {
	t.Helper()
	tr := &trial{T: t, stopped: make(chan struct{}), cfg: rueidisstore.Config{
		Redis: option, Prefix: fmt.Sprintf("trial%d", prefixes.Add(1)), MaxStreamLength: 1 << 20,
		// The sweep is for what nobody thought of; none of this may need it.
		Tail:   rueidisstore.TailConfig{SweepInterval: time.Hour},
		Logger: slog.New(slog.NewTextHandler(rueidisstore.LastLines(t), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}}
	tr.stop = sync.OnceFunc(func() { close(tr.stopped) })
	t.Cleanup(func() { // after the engines' end, which frees whoever waits
		tr.stop()
		tr.appending.Wait()
	})
	tr.writer = tr.engine(tr.open())
	tr.hub = tr.engine(tr.open())
	tr.reader = tr.open()
	for i := range busy + quiet {
		l := &load{quiet: i >= busy, burst: []int{1, 1, 7, 40}[i%4]}
		tr.create(l)
		tr.loads = append(tr.loads, l)
		tr.follow(l, engine.EventID{})
		tr.subscribe(l, engine.EventID{})
	}
	return tr
}

// open opens another process's store.
func (tr *trial) open() *rueidisstore.Store {
	tr.Helper()
	s := rueidisstore.MustNew(tr, tr.cfg)
	tr.Cleanup(func() { _ = s.Close() })
	return s
}

func (tr *trial) engine(s *rueidisstore.Store) *engine.Engine {
	tr.Helper()
	e, err := engine.New(engine.Config{
		Store: s, Ownership: engine.OwnerOnly(), Logger: tr.cfg.Logger,
	})
	if err != nil {
		tr.Fatal(err)
	}
	tr.Cleanup(func() {
		tr.stop() // of a test that has failed, no more than that is to be read
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			tr.Errorf("shut an engine down: %v", err)
		}
	})
	return e
}

const owner = "ann"

var requests atomic.Int64

// create stores the task and opens its run.
func (tr *trial) create(l *load) {
	tr.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	task, created, err := tr.reader.Create(tr.Context(), engine.Task{
		Type: "trial", Owner: owner, ClientRequestID: "request-" + strconv.FormatInt(requests.Add(1), 10),
		Status: engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
	})
	if err != nil || !created {
		tr.Fatalf("Create: created %v, %v", created, err)
	}
	l.task = task
	if l.run, err = tr.writer.Emitter().Open(context.Background(), task); err != nil {
		tr.Fatalf("open a run: %v", err)
	}
}

// start appends to the busy tasks until finish.
func (tr *trial) start() {
	for _, l := range tr.loads {
		if !l.quiet {
			tr.appending.Go(func() { tr.appendTo(l) })
		}
	}
}

// pace is how often a task gets its next messages. A dozen of tasks then have an
// append on its way at nearly any time, and several trials fit on two cores.
const pace = 5 * time.Millisecond

func (tr *trial) appendTo(l *load) {
	ctx := context.Background()
	if err := l.run.Emit(ctx, engine.Started{}); err != nil {
		tr.blame(l, err)
		return
	}
	tick := time.NewTicker(pace * time.Duration(l.burst))
	defer tick.Stop()
	for {
		select {
		case <-tr.stopped:
			return
		case <-tick.C:
		}
		if err := l.next(ctx); err != nil {
			tr.blame(l, err)
			return
		}
	}
}

// blame fails the test, unless it has ended.
func (tr *trial) blame(l *load, err error) {
	select {
	case <-tr.stopped:
		if tr.Failed() {
			return
		}
	default:
	}
	tr.Errorf("append to %s after message %d: %v", l.task.ID, l.acked.Load(), err)
}

// next appends the next messages and notes that they are stored.
func (l *load) next(ctx context.Context) error {
	n := l.acked.Load()
	if l.burst == 1 {
		if err := l.run.Emit(ctx, engine.Message{Text: strconv.FormatInt(n+1, 10)}); err != nil {
			return err
		}
		l.acked.Store(n + 1)
		return nil
	}
	for i := range l.burst {
		l.run.Stream(engine.Message{Text: strconv.FormatInt(n+int64(i)+1, 10)})
	}
	if err := l.run.Flush(ctx); err != nil {
		return err
	}
	l.acked.Store(n + int64(l.burst))
	return nil
}

// awaitProgress waits until every busy task has got more messages stored, for
// certain, than when it was called.
func (tr *trial) awaitProgress(more int64) {
	tr.Helper()
	for _, l := range tr.loads {
		if l.quiet {
			continue
		}
		from := l.acked.Load()
		eventually(tr.T, fmt.Sprintf("appends to %s go on after message %d", l.task.ID, from), func() bool {
			return l.acked.Load() >= from+more || tr.Failed()
		})
	}
	if tr.Failed() {
		tr.FailNow()
	}
}

// finish ends all tasks, the quiet ones after a few events, and waits until
// they are stored.
func (tr *trial) finish() {
	tr.Helper()
	tr.stop()
	tr.appending.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var ends sync.WaitGroup
	for _, l := range tr.loads {
		ends.Go(func() {
			if l.quiet {
				for range 3 {
					if err := l.next(ctx); err != nil {
						tr.Errorf("append to quiet %s: %v", l.task.ID, err)
					}
				}
			}
			if err := errors.Join(l.run.Emit(ctx, engine.Completed{}), l.run.Close(ctx)); err != nil {
				tr.Errorf("end %s: %v", l.task.ID, err)
			}
		})
	}
	ends.Wait()
	if tr.Failed() {
		tr.FailNow()
	}
}

// eventually waits until cond holds.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}
