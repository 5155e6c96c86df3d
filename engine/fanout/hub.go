package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Hub follows logs and delivers them to outlets. Make one with New; it is safe
// for concurrent use.
type Hub struct {
	cfg    Config
	src    Source
	merger Merger          // src, if it is one
	ctx    context.Context // ends with Close: every Follow and Read is below it
	cancel context.CancelFunc
	start  time.Time

	logs   *registry
	budget budget
	reads  reads
	loops  []*loop
	waker  waker

	outlets       atomic.Int64
	subscriptions atomic.Int64

	// wg counts every goroutine of the hub. Whoever adds to it is counted
	// already, or holds the lock of a registry shard that is still open.
	wg        sync.WaitGroup
	closeOnce sync.Once
	closed    chan struct{} // closed when every goroutine has ended
}

// New starts a hub's delivery loops. Close ends them. An error names the field
// of Config.
func New(cfg Config, src Source) (*Hub, error) {
	if src == nil {
		return nil, errors.New("fanout: a Source is required")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hub{cfg: cfg, src: src, ctx: ctx, cancel: cancel, start: time.Now(), closed: make(chan struct{})}
	h.merger, _ = src.(Merger)
	h.logs = newRegistry(h)
	h.budget.limit = int64(cfg.TotalBytes)
	h.reads = reads{hub: h, limit: max(int64(cfg.TotalBytes)/8, 1), flights: make(map[flightKey]*flight)}
	for range cfg.Loops {
		h.loops = append(h.loops, newLoop(h))
	}
	h.waker.signal = make(chan struct{}, 1)
	h.wg.Go(h.logs.keep)
	for _, l := range h.loops {
		h.wg.Go(l.run)
	}
	return h, nil
}

// now is the monotonic time since the hub was made, in nanoseconds.
func (h *Hub) now() int64 { return int64(time.Since(h.start)) }

func (c Config) withDefaults() (Config, error) {
	if c.FlushInterval == 0 {
		c.FlushInterval = 5 * time.Millisecond
	}
	if c.MaxFlushInterval < 0 {
		return c, errors.New("fanout: Config.MaxFlushInterval is negative")
	}
	if c.MaxFlushInterval == 0 {
		c.MaxFlushInterval = 32 * time.Millisecond
	}
	c.MaxFlushInterval = max(c.MaxFlushInterval, c.FlushInterval)
	if c.Linger == 0 {
		c.Linger = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	for _, f := range []struct {
		name  string
		value *int
		def   int
	}{
		{"Loops", &c.Loops, runtime.GOMAXPROCS(0)},
		{"RingBytes", &c.RingBytes, 4 << 20},
		{"TotalBytes", &c.TotalBytes, 256 << 20},
		{"FlushBytes", &c.FlushBytes, 64 << 10},
		{"PageEntries", &c.PageEntries, 256},
		{"Readers", &c.Readers, 16},
	} {
		switch {
		case *f.value < 0:
			return c, fmt.Errorf("fanout: Config.%s is negative", f.name)
		case *f.value == 0:
			*f.value = f.def
		}
	}
	return c, nil
}

// Open adds a subscriber's connection. Bytes begin to flow with the first
// Follow or Send. On a closed hub the outlet ends at once with EndHub, before
// Open returns; so does, with an error in the log, one without a Framing.
func (h *Hub) Open(sink Sink, cfg OutletConfig) *Outlet {
	l := h.loops[0]
	for _, other := range h.loops[1:] {
		if other.load.Load() < l.load.Load() {
			l = other
		}
	}
	o := &Outlet{sink: sink, errand: &noErrand}
	if cfg.Framing == nil {
		o.class = &class{loop: l}
		h.cfg.Logger.Error("fanout: an outlet was opened without a Framing")
		o.state = outletEnded
		sink.Ended(EndHub)
		return o
	}
	if !comparableFraming(cfg.Framing) {
		cfg.Framing = &unsharedFraming{cfg.Framing}
	}
	o.class = l.enroll(cfg)
	l.load.Add(1)
	h.outlets.Add(1)
	if !l.box.post(command{op: opOpen, outlet: o}) {
		o.class.strike()
		l.load.Add(-1)
		h.outlets.Add(-1)
		o.state = outletEnded
		sink.Ended(EndHub)
	}
	return o
}

// strictTypes are the types of framings of which every value can be compared;
// looking into each value again would allocate for each subscriber.
var strictTypes sync.Map // of bool by reflect.Type

func comparableFraming(f Framing) bool {
	t := reflect.TypeOf(f)
	known, ok := strictTypes.Load(t)
	if !ok {
		known, _ = strictTypes.LoadOrStore(t, strictlyComparable(t))
	}
	return known.(bool) || reflect.ValueOf(f).Comparable()
}

// strictlyComparable says that no value of a type panics when it is compared.
func strictlyComparable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface:
		return false // whatever is in it
	case reflect.Array:
		return strictlyComparable(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !strictlyComparable(t.Field(i).Type) {
				return false
			}
		}
	}
	return t.Comparable()
}

// unsharedFraming makes a Framing that cannot be a map key into one that can,
// at the price that its buffers are not shared between outlets.
type unsharedFraming struct{ Framing }

// Stats counts what the hub holds now.
type Stats struct {
	Outlets, Subscriptions, Logs int
	RingBytes                    int64
	// PageBytes is read from the Source and not yet written to those who asked.
	PageBytes int64
}

// Stats returns a count that is exact when nothing is going on. Logs includes
// those that linger; RingBytes and PageBytes count
// 64 bytes for each entry beside its body.
func (h *Hub) Stats() Stats {
	h.reads.mu.Lock()
	pages := h.reads.inHand
	h.reads.mu.Unlock()
	return Stats{
		PageBytes:     pages,
		Outlets:       int(h.outlets.Load()),
		Subscriptions: int(h.subscriptions.Load()),
		Logs:          h.logs.len(),
		RingBytes:     h.budget.total.Load(),
	}
}

// Close ends every outlet with EndHub, stops following, and waits for the
// loops or for ctx, whose error it then returns: a Source call that does not
// return is waited for that long. It may be called again, to wait on.
func (h *Hub) Close(ctx context.Context) error {
	h.closeOnce.Do(func() {
		h.cancel()
		for _, l := range h.loops {
			l.box.close()
		}
		go func() {
			h.wg.Wait()
			close(h.closed)
		}()
	})
	select {
	case <-h.closed:
		return nil
	case <-ctx.Done():
		select {
		case <-h.closed:
			return nil
		default:
			return ctx.Err()
		}
	}
}
