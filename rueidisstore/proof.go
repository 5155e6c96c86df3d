package rueidisstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// proofTTL is how long the keys live that proofs write.
const proofTTL = time.Minute

// proof holds the result of the last small write, which tells whether Redis takes
// writes. Only Store.keepProving writes; all others use its result or wait for the
// next one.
type proof struct {
	// asked wakes keepProving before its time.
	asked chan struct{}

	mu   sync.Mutex
	at   time.Time // when the last one was over
	err  error
	next chan struct{} // closed when there is a newer result
}

func newProof() *proof {
	// New has just rehearsed a task's life, so Redis takes writes.
	return &proof{asked: make(chan struct{}, 1), at: time.Now(), next: make(chan struct{})}
}

// ask makes keepProving write now.
func (p *proof) ask() {
	select {
	case p.asked <- struct{}{}:
	default:
	}
}

// found stores a result and returns the one before.
func (p *proof) found(err error) (before error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, p.err, p.at = p.err, err, time.Now()
	close(p.next)
	p.next = make(chan struct{})
	return before
}

// last returns the last result. known is false if it is older than age; next is
// closed when there is a newer one.
func (p *proof) last(age time.Duration) (known bool, next <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.at) < age, p.next, p.err
}

// keepProving writes every Config.ProbeInterval, so that a process that only reads
// also finds out when its connection leads to a server that no longer takes writes.
func (s *Store) keepProving() {
	for s.life.Err() == nil {
		pause := time.NewTimer(jitter(s.cfg.ProbeInterval))
		select {
		case <-s.life.Done():
		case <-s.proof.asked:
		case <-pause.C:
		}
		pause.Stop()
		err := s.prove(s.life)
		if s.life.Err() != nil {
			return
		}
		switch before := s.proof.found(err); {
		case err != nil && before == nil:
			s.cfg.Logger.Warn("rueidisstore: Redis takes no writes", "error", err)
		case err == nil && before != nil:
			s.cfg.Logger.Info("rueidisstore: Redis takes writes again")
		}
	}
}

// prove writes a small key; in a Cluster one in every sixteenth of the slots, so
// that most nodes are asked. It tries again if the connection breaks: that says
// nothing about the server, and connections have perhaps just been dropped.
func (s *Store) prove(ctx context.Context) error {
	ctx, done := s.bound(ctx)
	defer done()
	writes := 1
	if s.client.Mode() == rueidis.ClientModeCluster {
		writes = dueShards
	}
	for try := 1; ; try++ {
		cmds := make(rueidis.Commands, writes)
		for shard := range cmds {
			cmds[shard] = s.client.B().Set().Key(s.keys.proof(shard)).Value("").Px(proofTTL).Build()
		}
		var failed error
		for _, answer := range s.client.DoMulti(ctx, cmds...) {
			failed = errors.Join(failed, answer.Error())
		}
		if failed == nil || asAnswer(failed) != "" || try == 3 || ctx.Err() != nil {
			return failed
		}
	}
}

// Ready returns nil if Redis took the last of the small writes that the store sends
// every Config.ProbeInterval. It sends no command of its own, however often it is
// called. If the last write is more than two intervals old, it waits for the next.
func (s *Store) Ready(ctx context.Context) error {
	if s.isClosed() {
		return errClosed()
	}
	known, next, err := s.proof.last(2 * s.cfg.ProbeInterval)
	if !known {
		select {
		case <-next:
			_, _, err = s.proof.last(0)
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.life.Done():
			return errClosed()
		}
	}
	return notReady(err)
}

// notReady returns the error for an operator, who sees it in the answer of /ready.
func notReady(err error) error {
	if err == nil {
		return nil
	}
	answer, cause := asAnswer(err), &opError{op: "prove that Redis takes writes", err: err}
	message := "redis does not answer"
	switch {
	case begins(answer, full):
		message = "redis is full"
	case isWrongServer(answer):
		message = "redis is a replica, or asks for another login"
	case answer != "":
		message = "redis takes no writes"
	}
	return engine.NewError(engine.CodeStoreUnavailable, message).WithCause(cause)
}
