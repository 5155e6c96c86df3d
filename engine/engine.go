package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// Engine runs the services. Make one with New; it is safe for concurrent use.
type Engine struct {
	cfg     Config
	hub     *fanout.Hub
	emitter *Emitter
	revoked revoked
	rate    subjectRate   // of create requests
	volume  subjectRate   // of what is created, in bytes
	bounded BoundedReader // the store, if it is one
	forms   FormPolicy    // Config.Uploads, if it is one

	// What many ask at once is read once.
	looks     sharedRead[lookKey, view]
	snapshots sharedRead[string, Snapshot]

	// What the readiness probes said.
	readiness readiness

	handOffs *handOffs

	// creates and acts hold back the end of the store until every create, and
	// every answer to a suspension, is done.
	creates, acts gate
	// unsure counts the creates of which the store has not told what became.
	unsure gate
	// life is the reconciler's; it ends with Shutdown.
	life    context.Context
	endLife context.CancelFunc
	// drained ends with Drain; what waits in a service looks at it.
	drained context.Context
	drain   context.CancelFunc

	// stopping is held by the Shutdown that is at work; a channel, so that
	// others wait for it or for their context.
	stopping     chan struct{}
	executorDone bool
	storeClosed  bool
}

// New checks cfg and returns an engine. An error names the field of Config. On a
// store with Leases the engine begins to look for lost workers, on one that is
// an ActionStore for suspensions that expire; Shutdown ends it.
func New(cfg Config) (*Engine, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, stopping: make(chan struct{}, 1)}
	e.drained, e.drain = context.WithCancel(context.Background())
	e.life, e.endLife = context.WithCancel(context.Background())
	e.emitter = newEmitter(e.drained, cfg)
	e.rate.perSecond, e.rate.burst = float64(cfg.Creates.PerSecond), float64(cfg.Creates.Burst)
	e.rate.message = "too many create requests at once"
	e.volume.perSecond, e.volume.burst = float64(cfg.Creates.BytesPerSecond), float64(cfg.Creates.BurstBytes)
	e.volume.message = "too many bytes are created at once"
	e.bounded, _ = cfg.Store.(BoundedReader)
	e.forms, _ = cfg.Uploads.(FormPolicy)
	e.handOffs = newHandOffs(e.drained, e.emitter, cfg.Executor, cfg.Logger)
	var err error
	if e.hub, err = fanout.New(cfg.Delivery, source{e}); err != nil {
		return nil, fmt.Errorf("engine: Config.Delivery: %w", err)
	}
	revocations, _ := cfg.Store.(Revocations)
	if err = e.revoked.begin(revocations, cfg.Logger); err != nil {
		return nil, errors.Join(storeError("watch the revocations", err), e.hub.Close(context.Background()))
	}
	if cfg.Executor != nil {
		cfg.Executor.Bind(e.emitter)
	}
	if e.emitter.holds != nil && e.emitter.keep.enter() {
		go e.emitter.reap()
	}
	if e.emitter.actions != nil && e.emitter.keep.enter() {
		go e.reconciler(e.life)
	}
	return e, nil
}

// Emitter opens runs for workers that are not behind a TaskExecutor: those of a
// process that got a task's id from somewhere, and its record from
// TaskRegistry.Get.
func (e *Engine) Emitter() *Emitter { return e.emitter }

// Metrics is the sink of the Config, never nil, for what transports count.
func (e *Engine) Metrics() MetricsSink { return e.cfg.Metrics }

// Limits are those of the Config, with their defaults, for transports that need
// not read more than the engine takes.
func (e *Engine) Limits() Limits { return e.cfg.Limits }

// SingleProcess reports whether the store lives in the memory of this process,
// so that other processes would not see its tasks. A store says so with a
// method of the same name; without it, it is taken to be shared.
func (e *Engine) SingleProcess() bool {
	s, ok := e.cfg.Store.(interface{ SingleProcess() bool })
	return ok && s.SingleProcess()
}

// Drain begins the end: creates are refused with SERVER_DRAINING (a repeat of
// one that was accepted is still answered), waiting polls return, Ready says
// no, and an executor that has Drain is told (see [TaskExecutor]): tasks that
// another process can run go there. Everything else goes on until Shutdown.
func (e *Engine) Drain() {
	e.creates.close()
	e.drain()
	if d, ok := e.cfg.Executor.(interface{ Drain() }); ok {
		d.Drain()
	}
}

// Shutdown ends the engine: creates are refused with SERVER_DRAINING, waiting
// polls return, the executor finishes or fails what runs, the hub's outlets
// are cut, the store is closed. It may be called again and is safe from any
// goroutine.
//
// If that took too long it returns ctx's error. The outlets are cut even so;
// but as long as the executor or an append is at work the store stays open, so
// that a further call can bring it to its end.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.Drain()
	select {
	case e.stopping <- struct{}{}:
		defer func() { <-e.stopping }()
	case <-ctx.Done():
		return ctx.Err()
	}

	err := e.creates.wait(ctx)
	if err == nil {
		err = e.unsure.wait(ctx)
	}
	if err == nil {
		err = e.handOffs.stopResuming(ctx)
	}
	if err == nil {
		err = e.stopExecutor(ctx)
	}
	// Until here runs may still get their answers, and suspensions expire.
	if err == nil {
		err = e.acts.wait(ctx)
	}
	if err == nil || ctx.Err() == nil {
		e.endLife()
		err = errors.Join(err, e.handOffs.shutdown(ctx))
	}
	if err == nil || ctx.Err() == nil {
		err = errors.Join(err, e.emitter.shutdown(ctx))
	}
	err = errors.Join(err, e.hub.Close(ctx))
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	e.revoked.close()
	if c, ok := e.cfg.Store.(io.Closer); ok && !e.storeClosed {
		e.storeClosed = true
		err = errors.Join(err, c.Close())
	}
	return err
}

func (e *Engine) stopExecutor(ctx context.Context) error {
	s, ok := e.cfg.Executor.(interface{ Shutdown(context.Context) error })
	if !ok || e.executorDone {
		return nil
	}
	err := s.Shutdown(ctx)
	e.executorDone = err == nil
	return err
}
