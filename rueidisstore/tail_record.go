package rueidisstore

import (
	"context"
	"strconv"
	"sync"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/internal/latest"
)

// listener is one Listen: a record that is read whenever it has changed.
type listener struct {
	unit
	tail        *tail
	incarnation string
	signal      *latest.Teller[engine.Signal]

	begun beginning
}

// beginning is closed with the first answer that matters to whoever waits.
type beginning struct {
	mu   sync.Mutex
	done chan struct{}
	over bool
	err  error // the outcome
	last error // why there is none yet
}

func newBeginning() beginning { return beginning{done: make(chan struct{})} }

// settle says what came of it, the first time it is called.
func (b *beginning) settle(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		b.over, b.err = true, err
		close(b.done)
	}
}

// failed notes an error that may pass, or settles.
func (b *beginning) failed(err error) {
	if answer, ok := rueidis.IsRedisErr(err); ok && !isPassing(answer.Error()) {
		b.settle(err)
		return
	}
	b.mu.Lock()
	b.last = err
	b.mu.Unlock()
}

// pending reports whether nothing is known yet.
func (b *beginning) pending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.over
}

// await returns the outcome. It is bounded like every command.
func (t *tail) await(ctx context.Context, b *beginning) error {
	timed, cancel := context.WithTimeout(ctx, t.cfg.CommandTimeout)
	defer cancel()
	select {
	case <-b.done:
	case <-t.done:
		return errClosed()
	case <-timed.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.over:
		return b.err
	case ctx.Err() == nil && b.last != nil:
		return b.last
	}
	return timed.Err()
}

// listen begins to read a record, and returns when it was found.
func (t *tail) listen(ctx context.Context, key, incarnation string, fn func(engine.Signal)) (*listener, error) {
	l := &listener{tail: t, incarnation: incarnation, signal: latest.New(t.call, fn), begun: newBeginning()}
	l.unit = unit{key: key, read: l}
	err := t.watch(&l.unit)
	if err == nil {
		err = t.await(ctx, &l.begun)
	}
	if err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

// stop ends the listening.
func (l *listener) stop() {
	l.signal.Stop()
	l.tail.unwatch(&l.unit)
}

// question implements reading.
func (l *listener) question(bool) question { return question{} }

// command implements reading.
func (l *listener) command(b rueidis.Builder, _ question) rueidis.Completed {
	return b.Hmget().Key(l.key).Field(fieldIncarnation, fieldCancel, fieldResolved).Build()
}

// answer implements reading.
func (l *listener) answer(q question, _ bool, reply []rueidis.RedisMessage) outcome {
	id := ""
	if len(reply) == 3 {
		id, _ = reply[0].ToString()
	}
	if id != l.incarnation && !q.proven {
		return outcome{verdict: unproven}
	}
	if id != l.incarnation {
		l.begun.settle(errNotFound())
		return outcome{}
	}
	var sig engine.Signal
	if reason, err := reply[1].ToString(); err == nil {
		sig.CancelRequested, sig.CancelReason = true, reason
	}
	if n, err := reply[2].ToString(); err == nil {
		sig.Resolved, _ = strconv.ParseUint(n, 10, 64)
	}
	l.signal.Tell(sig)
	l.begun.settle(nil)
	return outcome{}
}

// failed implements reading.
func (l *listener) failed(err error) { l.begun.failed(err) }
