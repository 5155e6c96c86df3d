package rueidisstore

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// retryTracking is how often a server that could not track is asked again.
var retryTracking = 30 * time.Second

// dial makes the client that the node is read with.
func (n *node) dial() error {
	n.tracking = !n.tail.cfg.Redis.DisableCache && time.Now().After(n.askAt)
	if n.tail.cfg.Redis.DisableCache {
		n.sayPolling(nil)
	}
	var err error
	n.client, n.dials, err = n.newClient(n.tracking)
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
	o.ConnLifetime = 0
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
	ctxFn, fn := o.DialCtxFn, o.DialFn
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
		dials.Add(1)
		switch {
		case ctxFn != nil:
			return ctxFn(ctx, addr, d, cfg)
		case fn != nil:
			return fn(addr, d, cfg)
		case cfg != nil:
			return (&tls.Dialer{NetDialer: d, Config: cfg}).DialContext(ctx, "tcp", addr)
		}
		return d.DialContext(ctx, "tcp", addr)
	}
	return o
}
