package rueidisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// retryTracking is how often a server that could not track is asked again.
var retryTracking = 30 * time.Second

// freshClient is after how many failures a client is given up: a new one
// resolves names and asks Sentinels anew.
const freshClient = 8

// connect returns true once the server answers; until then it tries again and
// again. Then everything is read anew, with proof.
func (n *node) connect(ctx context.Context) bool {
	pause := time.Duration(0)
	for try := 1; ; try++ {
		if try > 1 {
			pause = min(max(2*pause, minPause), maxPause)
			n.tail.suspectSlots()
			select {
			case <-ctx.Done():
				return false
			case <-time.After(jitter(pause)):
			}
		}
		if !n.needed(ctx) {
			return false
		}
		err := n.ping(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, rueidis.ErrNoCache) && n.tracking {
			n.noTracking(err)
			continue
		}
		n.sayDown(err)
		if try%freshClient == 0 || isWrongServer(asAnswer(err)) {
			n.hangUp()
		}
	}
	if n.down {
		n.down = false
		n.tail.cfg.Logger.Info("rueidisstore: the connection for reading is back", "node", n.addr)
	}
	n.doubtAll()
	n.tickAt = time.Now().Add(randDuration(n.tail.cfg.Tail.SweepInterval))
	if !n.tracking {
		n.tickAt = time.Now()
	}
	return true
}

// needed waits until there is something to read.
func (n *node) needed(ctx context.Context) bool {
	for ctx.Err() == nil {
		n.tail.mu.Lock()
		idle := len(n.units) == 0
		n.lost = false
		n.tail.mu.Unlock()
		if !idle {
			return true
		}
		select {
		case <-ctx.Done():
		case <-n.wake:
		}
	}
	return false
}

// ping makes a connection if there is none, and asks whether the server serves.
func (n *node) ping(ctx context.Context) error {
	if n.client == nil {
		if err := n.dial(); err != nil {
			return err
		}
	}
	return n.prove(ctx)
}

// writeRefusals are answers to a write by a server that can be read.
var writeRefusals = []string{"OOM", "MISCONF", "NOREPLICAS"}

// prove checks that the server answers, and outside a Cluster that it takes writes:
// a demoted server can be read but may get no new events. In a Cluster a replica
// answers reads with MOVED, so a PING is enough.
func (n *node) prove(ctx context.Context) error {
	timed, cancel := context.WithTimeout(ctx, n.tail.cfg.Tail.ReadTimeout)
	defer cancel()
	n.proveAt = time.Now().Add(jitter(n.tail.cfg.ProbeInterval))
	cmd := n.client.B().Ping().Build()
	if !n.tail.cluster {
		cmd = n.proof()
	}
	result := n.client.Do(timed, cmd)
	if err := result.NonRedisError(); err != nil {
		return err
	}
	// A user without the right for this command is connected all the same.
	answer := asAnswer(result.Error())
	if isWrongServer(answer) || isPassing(answer) && !begins(answer, writeRefusals) {
		return result.Error()
	}
	return nil
}

// proof returns a small write.
func (n *node) proof() rueidis.Completed {
	return n.client.B().Set().Key(n.tail.keys.proof(0)).Value("").Px(proofTTL).Build()
}

// outlived reports whether the connection is older than Redis.ConnLifetime. The node
// ends it, and not rueidis, which might end it in the middle of a round.
func (n *node) outlived() bool {
	life := n.tail.cfg.Redis.ConnLifetime
	return life > 0 && time.Since(n.bornAt) > life
}

// stillRight proves the connection again. It returns false if the connection cannot
// be used any longer.
func (n *node) stillRight(ctx context.Context) bool {
	if n.outlived() {
		n.hangUp()
		return false
	}
	err := n.prove(ctx)
	if err == nil || ctx.Err() != nil {
		return true
	}
	n.sayDown(err)
	if isWrongServer(asAnswer(err)) {
		n.hangUp()
	}
	return false
}

func (n *node) sayDown(err error) {
	if !n.down {
		n.down = true
		n.tail.cfg.Logger.Warn("rueidisstore: the connection for reading is lost", "node", n.addr, "error", err)
	}
}

// doubtAll queues everything.
func (n *node) doubtAll() {
	n.tail.mu.Lock()
	defer n.tail.mu.Unlock()
	for _, u := range n.units {
		u.doubt = true
		u.weight = max(u.weight, unknownWeight)
		n.enqueue(u)
	}
	clear(n.later)
	n.later = n.later[:0]
}

// dial makes the client that the node is read with.
func (n *node) dial() error {
	n.tracking = !n.tail.cfg.Redis.DisableCache && time.Now().After(n.askAt)
	if n.tail.cfg.Redis.DisableCache {
		n.sayPolling(nil)
	}
	var err error
	n.client, n.dials, err = n.newClient(n.tracking)
	n.bornAt = time.Now()
	return err
}

// newClient connects. The count goes up with each connection that the client
// makes, the first included.
func (n *node) newClient(tracking bool) (rueidis.Client, *atomic.Uint32, error) {
	dials := new(atomic.Uint32)
	client, err := rueidis.NewClient(n.option(tracking, dials))
	if err != nil {
		if client != nil { // a single server's client is given with the error
			client.Close()
		}
		return nil, nil, err
	}
	return client, dials, nil
}

func (n *node) hangUp() {
	if n.client != nil {
		n.client.Close()
		n.client = nil
	}
}

// noTracking goes on by polling.
func (n *node) noTracking(err error) {
	n.hangUp()
	n.askAt = time.Now().Add(jitter(retryTracking))
	n.sayPolling(err)
}

func (n *node) sayPolling(err error) {
	if !n.warned {
		n.warned = true
		n.tail.cfg.Logger.Warn("rueidisstore: the server cannot track keys; new events are polled for",
			"node", n.addr, "error", err)
	}
}

// tryTracking looks whether the server can track by now. If so, the connection
// is a new one and everything must be read anew.
func (n *node) tryTracking(ctx context.Context) bool {
	n.askAt = time.Now().Add(jitter(retryTracking))
	if n.tail.cfg.Redis.DisableCache || ctx.Err() != nil {
		return false
	}
	client, dials, err := n.newClient(true)
	if err != nil {
		return false
	}
	n.hangUp()
	n.client, n.dials, n.tracking, n.warned = client, dials, true, false
	n.bornAt = time.Now()
	n.tail.cfg.Logger.Info("rueidisstore: the server can track keys now", "node", n.addr)
	return true
}

// option is what the host configured, for one connection that Redis remembers
// reads of.
func (n *node) option(tracking bool, dials *atomic.Uint32) rueidis.ClientOption {
	o := n.tail.cfg.baseOption()
	if n.addr != "" {
		o.InitAddress = []string{n.addr}
		o.ForceSingleClient = true
	} else if o.Sentinel.MasterSet == "" {
		// Not by itself: asking a single server for its slots takes a right that
		// the user may not have.
		o.ForceSingleClient = true
	}
	o.ShuffleInit = false
	// One connection: invalidations come on the one that has read the key.
	o.PipelineMultiplex = -1
	o.DisableAutoPipelining = false
	o.BlockingPipeline = 1 << 30
	o.ConnLifetime = 0 // see outlived
	// Failures are dealt with here, and nothing is cached.
	o.DisableRetry = true
	o.DisableCache = !tracking
	o.OnInvalidations = nil
	o.ClientTrackingOptions = nil
	if tracking {
		o.OnInvalidations = n.invalidated
		o.ClientTrackingOptions = []string{"OPTOUT"}
	}
	o.CacheSizeEachConn = 1 << 10
	o.SendToReplicas = nil
	o.Standalone.ReplicaAddress = nil
	o.MaxFlushDelay = 0
	o.ReadBufferEachConn, o.WriteBufferEachConn = 16<<10, 16<<10
	o.RingScaleEachConn = 8
	if n.tail.cfg.Redis.ConnWriteTimeout == 0 {
		o.ConnWriteTimeout = time.Second // half-open connections are noticed by it
	}
	if o.ClientName != "" {
		o.ClientName += "-"
	}
	o.ClientName += "taskbridge-tail"
	dial := dialer(o)
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, addr, d, cfg)
	}
	return o
}
