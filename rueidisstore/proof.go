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

// proof is what came of the last small write: whether Redis takes writes. Only
// Store.keepProving writes; everybody else waits for it or takes what it found.
type proof struct {
	// asked wakes keepProving before its time.
	asked chan struct{}

	mu   sync.Mutex
	at   time.Time // when the last one was over
	err  error
	next chan struct{} // closed when there is another one
}

func newProof() *proof {
	// New has just gone through a task's life.
	return &proof{asked: make(chan struct{}, 1), at: time.Now(), next: make(chan struct{})}
}

// ask has the next proof made now.
func (p *proof) ask() {
	select {
	case p.asked <- struct{}{}:
	default:
	}
}

// found keeps what came of a proof, and gives what came of the one before.
func (p *proof) found(err error) (before error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, p.err, p.at = p.err, err, time.Now()
	close(p.next)
	p.next = make(chan struct{})
	return before
}

// last gives what came of the last proof, if that is younger than age. Otherwise
// next is closed when there is another one.
func (p *proof) last(age time.Duration) (known bool, next <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.at) < age, p.next, p.err
}

// keepProving writes every Config.ProbeInterval. So a process that only reads, too,
// finds out that its connection leads to a server that takes no writes any more.
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
// that most nodes are asked. A connection that breaks is no answer: that of a
// command that has just been dropped is found broken here.
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

// Ready gives what came of the last of the small writes by which the store finds
// out, every Config.ProbeInterval, whether Redis takes writes. It sends no command
// of its own, however often it is called, and waits for the write that is under
// way if the last one was too long ago.
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

// notReady has words for an operator, who sees them in the answer of /ready.
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
