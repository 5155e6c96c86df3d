package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// reconcilePause is how long the reconciler rests at most between rounds: an
	// expiry is kept to within two seconds.
	reconcilePause = 500 * time.Millisecond
	// reconcileBatch suspensions are asked for at a time, and so many are
	// expired at once.
	reconcileBatch  = 64
	reconcileAtOnce = 16
	// reconcileTimeout bounds a round, so that a store that hangs is asked again.
	reconcileTimeout = 10 * time.Second
)

// Reconcile does now what the engine's own reconciler does all the time: it
// lets suspensions expire whose time is over, and hands over answers that the
// executor does not have yet. It looks at what is due and not being seen to by
// another node, and returns how much of it is done.
func (e *Engine) Reconcile(ctx context.Context) (done int, err error) {
	if e.emitter.actions == nil {
		return 0, nil
	}
	return e.reconcile(ctx, func(d DueSuspension) (bool, error) { return e.handOffs.do(ctx, d) })
}

// reconciler runs until life ends.
func (e *Engine) reconciler(life context.Context) {
	defer e.emitter.keep.leave()
	var pause backoff
	next, failing := time.Duration(0), false
	for {
		if next == 0 {
			next = reconcilePause/2 + rand.N(reconcilePause/2)
		}
		if !sleep(life, next) {
			return
		}
		err := e.reconcileRound(life)
		switch {
		case life.Err() != nil:
			return
		case err == nil:
			failing, next, pause = false, 0, backoff{}
		default:
			if !failing {
				e.cfg.Logger.Warn("suspensions could not be looked at; trying again", "error", err)
			}
			failing, next = true, pause.next(reconcilePause)
		}
	}
}

func (e *Engine) reconcileRound(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	// An executor that takes long must not hold up what expires.
	_, err := e.reconcile(ctx, func(d DueSuspension) (bool, error) {
		e.handOffs.start(d)
		return true, nil
	})
	return err
}

// reconcile sees to everything that is due now.
func (e *Engine) reconcile(ctx context.Context, handOff func(DueSuspension) (bool, error)) (done int, err error) {
	for {
		due, err := e.emitter.actions.Due(ctx, reconcileBatch)
		n, failed := e.seeTo(ctx, due, handOff)
		done += n
		if err = errors.Join(err, failed); err != nil || len(due) < reconcileBatch {
			return done, err
		}
	}
}

func (e *Engine) seeTo(ctx context.Context, due []DueSuspension, handOff func(DueSuspension) (bool, error)) (done int, err error) {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		room  = make(chan struct{}, reconcileAtOnce)
	)
	for _, d := range due {
		room <- struct{}{}
		group.Go(func() {
			defer func() { <-room }()
			ok, failed := e.seeToOne(ctx, d, handOff)
			mu.Lock()
			defer mu.Unlock()
			if ok {
				done++
			}
			err = errors.Join(err, failed)
		})
	}
	group.Wait()
	return done, err
}

// seeToOne expires a suspension or hands its answer over. What somebody else
// did meanwhile is no error.
func (e *Engine) seeToOne(ctx context.Context, d DueSuspension, handOff func(DueSuspension) (bool, error)) (done bool, err error) {
	if d.Open {
		verdict, err := e.emitter.expire(ctx, d.TaskID, d.Suspension)
		switch {
		case CodeOf(err) == CodeTaskNotFound:
			return false, nil
		case err != nil || verdict != VerdictAccepted:
			return false, err
		case d.Default == nil:
			return true, nil
		}
		if d.Suspension, err = e.emitter.actions.Suspension(ctx, d.TaskID, d.SuspendID); err != nil {
			return true, nil //nolint:nilerr // it expired; the hand-off comes again
		}
	}
	if d.Answer == nil {
		return false, nil
	}
	return handOff(d)
}
