package fiberbridge

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/socket"
)

// How long the ends of a connection may take.
const (
	// farewellTime is how long a stream that was ended may take to write what
	// is on its way and its farewell.
	farewellTime = 5 * time.Second
	// lingerTime is how long a connection waits for the peer's FIN after ours,
	// throwing away what still comes.
	lingerTime = 2 * time.Second
	// hastyTime is farewellTime where somebody waits for the place.
	hastyTime = 2 * time.Second
	// hastyLinger is lingerTime there: enough for what was written to leave.
	hastyLinger = 20 * time.Millisecond
	// closeAnswerTime is how long a WebSocket waits for the peer's close frame
	// after ours.
	closeAnswerTime = 3 * time.Second
)

// streams counts and ends the SSE and WebSocket streams of one bridge.
type streams struct {
	cfg   Config
	eng   *engine.Engine
	hub   *fanout.Hub
	log   *slog.Logger
	group *socket.Group
	// upgrade is contrib's WebSocket handler.
	upgrade fiber.Handler

	// limit is Config.Streams.Max, ceiling what the process can bear.
	limit, ceiling int
	deadlines      *deadlines
	commands       *commandPool
	recheck        *recheck
	// partTime is how long a socket whose only subscription has ended stays open for
	// another one.
	partTime instant
	// refusals bounds the goroutines that wait for refused clients to go.
	refusals chan struct{}

	mu       sync.Mutex
	draining bool
	// used counts tickets and subscribers, waiting the tickets alone.
	used, waiting int
	// polls counts polls, and unread the bytes of large answers, until they have been
	// sent; arriving counts the bytes of streamed bodies.
	polls       int
	unread      quota
	arriving    quota
	subscribers []*stream
	subjects    map[string]*subject
	perTask     map[string]int // of tasks with subscribers, if that is bounded
	// placed are the tasks that a socket counts for in perTask.
	placed map[*wsStream][]string
	// idle counts the sockets that have not subscribed; see ws_idle.go.
	idle         int
	idleSubjects map[*subject]struct{}
	// empty is closed when used is zero, and made anew when it is not.
	empty chan struct{}
}

// subscriber is one open stream.
type subscriber interface {
	fanout.Sink
	socket.Handler
	timed
	base() *stream
	// heartbeat is the transport's; zero is none.
	heartbeat() time.Duration
	// left is called with streams.mu held, when the stream gives its place back.
	left()
	// standing ends what a revocation applies to and, if policy is set, what
	// the policy now denies. With policy it may block on a store.
	standing(ctx context.Context, policy bool)
	// transport is the name in metrics.
	transport() string
	// resumed is called when the socket was full and takes bytes again.
	resumed()
	// endFor tells the client why and when to come back, and cuts.
	endFor(reason closingReason, retryAfter time.Duration)
}

// newStreams is called once by New, with defaults applied to cfg.
func newStreams(b *Bridge) (*streams, error) {
	group, err := socket.NewGroup(socket.Options{DisableFastPath: b.cfg.Streams.DisableFastPath})
	if err != nil {
		return nil, err
	}
	s := &streams{
		cfg:      b.cfg,
		eng:      b.eng,
		hub:      b.eng.Hub(),
		log:      b.cfg.Logger,
		group:    group,
		limit:    b.cfg.Streams.Max,
		ceiling:  max(b.cfg.Streams.Max, b.cfg.defaultStreamLimit()),
		subjects: map[string]*subject{},
		unread:   quota{most: b.cfg.Answers.MaxBytes, mostEach: b.cfg.Answers.MaxBytesPerSubject},
		arriving: quota{most: b.cfg.Uploads.MaxBytes, mostEach: b.cfg.Uploads.MaxBytesPerSubject},

		idleSubjects: map[*subject]struct{}{},
		partTime:     instant(50 * time.Millisecond),
		refusals:     make(chan struct{}, 256),
		empty:        make(chan struct{}),
	}
	close(s.empty)
	s.upgrade = newUpgrade(s)
	s.commands = newCommandPool(commandWorkers)
	s.deadlines = newDeadlines()
	s.recheck = newRecheck(s)
	return s, nil
}

// drain refuses new streams and ends those that are open, spread over
// DrainConfig.Spread, each with a jittered time to come back after. It returns
// when all have ended or ctx is done.
func (s *streams) drain(ctx context.Context, spread time.Duration) error {
	s.mu.Lock()
	s.draining = true
	open := slices.Clone(s.subscribers)
	s.mu.Unlock()

	// Those that come between the lines are ended as they enter: see enter.
	rand.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	begin := time.Now()
	for next := 0; next < len(open); {
		due := len(open)
		if spread > 0 {
			passed := float64(time.Since(begin)+step) / float64(spread)
			due = min(due, int(passed*float64(len(open)))+1)
		}
		for ; next < due; next++ {
			open[next].self().endFor(closingDraining, s.retryAfter())
		}
		if next == len(open) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			spread = 0
		}
	}
	return s.waitEmpty(ctx)
}

// close cuts what is left and waits for every goroutine of the streams.
func (s *streams) close(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	open := slices.Clone(s.subscribers)
	s.mu.Unlock()
	for _, st := range open {
		st.cut()
	}
	s.deadlines.close()
	if err := errors.Join(s.recheck.close(ctx), s.commands.close(ctx)); err != nil {
		return err
	}
	return s.group.Close(ctx)
}

// waitEmpty returns when no stream is left, or ctx's error.
func (s *streams) waitEmpty(ctx context.Context) error {
	s.mu.Lock()
	empty := s.empty
	s.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter is when one client is told to come back: spread, so that they do
// not come at once.
func (s *streams) retryAfter() time.Duration {
	lo, hi := s.cfg.Drain.RetryMin, s.cfg.Drain.RetryMax
	if hi <= lo {
		return lo
	}
	return lo + rand.N(hi-lo+1)
}

// jitter returns a random part of d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
