package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
)

// The ways to follow many logs that TestTail compares.
const (
	wayNobody     = "nobody"
	wayOurs       = "ours"
	wayMulti      = "multi-key XREAD"
	waySubscriber = "XREAD per subscriber"
)

// multiConnections is how many connections the multi-key way spreads over.
const multiConnections = 4

// followed is a log and where to follow it from.
type followed struct {
	TaskID string         `json:"taskId"`
	Key    string         `json:"key"`
	After  engine.EventID `json:"after"`
}

// follow follows logs in one of the ways until stop is called. It returns when
// all are followed.
func follow(way, addr, prefix string, logs []followed, l *latencies) (stop func(), err error) {
	switch way {
	case wayOurs:
		return followOurs(addr, prefix, logs, l)
	case wayMulti:
		return followBlocked(addr, spread(logs, multiConnections), l)
	case waySubscriber:
		return followBlocked(addr, spread(logs, len(logs)), l)
	}
	return nil, fmt.Errorf("no such way: %s", way)
}

// followOurs uses the store, as the engine does.
func followOurs(addr, prefix string, logs []followed, l *latencies) (func(), error) {
	store, err := rueidisstore.New(rueidisstore.Config{
		Redis:  rueidis.ClientOption{InitAddress: []string{addr}},
		Prefix: prefix,
	})
	if err != nil {
		return nil, err
	}
	err = eachOf(logs, func(log followed) error {
		_, err := store.Follow(context.Background(), log.TaskID, log.After, (*pushed)(l))
		return err
	})
	if err != nil {
		_ = store.Close()
		return nil, err
	}
	return func() { _ = store.Close() }, nil
}

// pushed is an engine.Follower.
type pushed latencies

func (p *pushed) Push(events []engine.Event) {
	now := time.Now().UnixNano()
	for i := range events {
		(*latencies)(p).arrived(events[i].Payload, now)
	}
}

func (p *pushed) Lost() { (*latencies)(p).bad.Add(1) }

// spread deals logs out to n connections.
func spread(logs []followed, n int) [][]followed {
	shares := make([][]followed, min(n, len(logs)))
	for i, log := range logs {
		shares[i%len(shares)] = append(shares[i%len(shares)], log)
	}
	return shares
}

// followBlocked reads each share with a blocked XREAD on a connection of its
// own, which is issued anew after each answer.
func followBlocked(addr string, shares [][]followed, l *latencies) (func(), error) {
	var (
		mu    sync.Mutex
		conns []*blocked
		group sync.WaitGroup
	)
	stop := func() {
		for _, c := range conns {
			c.conn.Close()
		}
		group.Wait()
	}
	err := eachOf(shares, func(logs []followed) error {
		c, err := newBlocked(addr, logs, l)
		if err != nil {
			return err
		}
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		return nil
	})
	if err != nil {
		stop()
		return nil, err
	}
	for _, c := range conns {
		group.Go(c.run)
	}
	return stop, nil
}

// eachOf calls do for each of all, a few at a time, and gives the first error.
func eachOf[T any](all []T, do func(T) error) error {
	var (
		group sync.WaitGroup
		once  sync.Once
		first error
		work  = make(chan T)
	)
	for range min(64, len(all)) {
		group.Go(func() {
			for v := range work {
				if err := do(v); err != nil {
					once.Do(func() { first = err })
				}
			}
		})
	}
	for _, v := range all {
		work <- v
	}
	close(work)
	group.Wait()
	return first
}
