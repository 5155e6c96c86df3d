package rueidisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var errUnconfirmed = errors.New("stored, but not confirmed in time")

// Scripts that may have to wait.
var (
	appendWaiting  = newPipelined(appendSource)
	resolveWaiting = newPipelined(resolveSource)
)

// runAndWait runs a script, and then WAIT or WAITAOF on the same connection, if
// it wrote. That connection is one of a pool: the others' pipeline does not stand
// still meanwhile.
func (s *Store) runAndWait(ctx context.Context, script pipelined, keys, args []string) (answer rueidis.RedisResult, err error) {
	w := s.cfg.Wait
	ctx, done := context.WithTimeout(ctx, s.cfg.CommandTimeout+w.Timeout)
	defer done()
	err = s.client.Dedicated(func(c rueidis.DedicatedClient) error {
		answer = runOn(ctx, c, script, keys, args)
		if !stored(answer) {
			return nil // readAppend tells why
		}
		if !w.Fsync {
			n, err := c.Do(ctx, c.B().Wait().Numreplicas(int64(w.Replicas)).Timeout(w.Timeout.Milliseconds()).Build()).AsInt64()
			if err == nil && n < int64(w.Replicas) {
				err = fmt.Errorf("%w: %d of %d replicas have it", errUnconfirmed, n, w.Replicas)
			}
			return err
		}
		got, err := c.Do(ctx, c.B().Waitaof().Numlocal(1).Numreplicas(int64(w.Replicas)).Timeout(w.Timeout.Milliseconds()).Build()).AsIntSlice()
		if err == nil && (len(got) != 2 || got[0] < 1 || got[1] < int64(w.Replicas)) {
			err = fmt.Errorf("%w: on disk here and on replicas: %v of [1 %d]", errUnconfirmed, got, w.Replicas)
		}
		return err
	})
	if err != nil && asAnswer(err) == "" {
		return answer, unavailable(&opError{op: "wait for an append", err: err})
	}
	return answer, classify("wait for an append", err)
}

// stored reports whether the script wrote the event, now or before.
func stored(answer rueidis.RedisResult) bool {
	m, err := answer.ToMessage()
	if err != nil || !m.IsInt64() {
		return err == nil
	}
	code, _ := m.AsInt64()
	return code == int64(engine.VerdictDeduplicated)
}

// runOn runs a script on a connection of one's own.
func runOn(ctx context.Context, c rueidis.DedicatedClient, script pipelined, keys, args []string) rueidis.RedisResult {
	answer := c.Do(ctx, c.B().Evalsha().Sha1(script.sha).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
	if strings.HasPrefix(asAnswer(answer.Error()), "NOSCRIPT") {
		answer = c.Do(ctx, c.B().Eval().Script(script.source).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
	}
	return answer
}
