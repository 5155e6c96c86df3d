package redistest

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
)

// Watch is a primary and a replica under three Sentinels.
type Watch struct {
	t         testing.TB
	servers   [2]*Instance
	sentinels []*Instance
}

// MasterSet is the name that the Sentinels know the primary by.
const MasterSet = "mymaster"

// quorum is how many of the three Sentinels must agree.
const quorum = 2

// Sentinel starts one primary, its replica and three Sentinels, and returns
// when the replica is in step and the Sentinels know it and each other.
func Sentinel(t testing.TB, opts ...Option) *Watch {
	t.Helper()
	w := &Watch{t: t}
	replication := func(int) []string {
		return []string{
			"masteruser " + adminName,
			"masterauth " + adminPassword,
			"repl-ping-replica-period 1",
		}
	}
	w.servers[0] = start(t, "server 0", replication, opts)
	w.servers[1] = start(t, "server 1", func(port int) []string {
		return append(replication(port), "replicaof 127.0.0.1 "+strconv.Itoa(w.servers[0].Port()))
	}, opts)
	// A Sentinel asks the primary for its replicas every 10 seconds: it should
	// be there by the first time.
	w.servers[0].await("the replica is in step", func() (bool, error) {
		info, err := w.servers[0].Info("replication")
		return strings.Contains(info["slave0"], "state=online"), fmt.Errorf("the primary says %v, %w", info, err)
	})
	for n := range 3 {
		w.sentinels = append(w.sentinels, w.sentinel(n))
	}
	for _, s := range w.sentinels {
		// Periods in ms. Sentinels before 7.0 cannot be hurried.
		_, _ = s.Do("SENTINEL", "DEBUG", "INFO-PERIOD", "500", "PUBLISH-PERIOD", "200", "ASK-PERIOD", "200")
	}
	w.AwaitOK()
	return w
}

func (w *Watch) sentinel(n int) *Instance {
	w.t.Helper()
	return launch(w.t, fmt.Sprintf("sentinel %d", n), false, func(s *Instance) []string {
		return []string{
			"bind 127.0.0.1",
			"port " + strconv.Itoa(s.port),
			"dir " + s.dir,
			fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", MasterSet, w.servers[0].Port(), quorum),
			fmt.Sprintf("sentinel auth-user %s %s", MasterSet, adminName),
			fmt.Sprintf("sentinel auth-pass %s %s", MasterSet, adminPassword),
			// A busy machine must not look like a primary that is down.
			"sentinel down-after-milliseconds " + MasterSet + " 2000",
			"sentinel failover-timeout " + MasterSet + " 4000",
		}
	}, "--sentinel")
}

// Addrs are the addresses of the Sentinels.
func (w *Watch) Addrs() []string {
	var addrs []string
	for _, s := range w.sentinels {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}

// Sentinels are the three Sentinels.
func (w *Watch) Sentinels() []*Instance { return w.sentinels }

// Primary is the server that the first Sentinel holds for it.
func (w *Watch) Primary() *Instance {
	w.t.Helper()
	p, err := w.primary()
	if err != nil {
		w.t.Fatalf("redistest: ask a Sentinel for the primary: %v", err)
	}
	return p
}

func (w *Watch) primary() (*Instance, error) {
	reply, err := w.sentinels[0].Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterSet)
	if err != nil {
		return nil, err
	}
	if a := texts(reply); len(a) == 2 {
		for _, s := range w.servers {
			if s.Addr() == net.JoinHostPort(a[0], a[1]) {
				return s, nil
			}
		}
	}
	return nil, fmt.Errorf("the Sentinel's answer is %v", reply)
}

// Replica is the server that is not the primary.
func (w *Watch) Replica() *Instance {
	w.t.Helper()
	return w.other(w.Primary())
}

func (w *Watch) other(s *Instance) *Instance {
	if s == w.servers[0] {
		return w.servers[1]
	}
	return w.servers[0]
}

// AwaitOK waits until both servers run, the replica is in step, and the
// Sentinels agree on who is who.
func (w *Watch) AwaitOK() {
	w.t.Helper()
	w.sentinels[0].await("all is well", func() (bool, error) {
		primary, err := w.primary()
		if err != nil {
			return false, err
		}
		info, err := primary.Info("replication")
		if err != nil || info["role"] != "master" {
			return false, fmt.Errorf("the primary says %v, %w", info, err)
		}
		if info, err = w.other(primary).Info("replication"); err != nil || info["master_link_status"] != "up" ||
			info["master_port"] != strconv.Itoa(primary.Port()) {
			return false, fmt.Errorf("the replica says %v, %w", info, err)
		}
		for _, s := range w.sentinels {
			if err := w.agrees(s, primary); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// agrees returns nil if Sentinel s sees primary well, with all others there.
func (w *Watch) agrees(s, primary *Instance) error {
	reply, err := s.Do("SENTINEL", "MASTER", MasterSet)
	if err != nil {
		return err
	}
	pairs := texts(reply)
	view := map[string]string{}
	for n := 0; n+1 < len(pairs); n += 2 {
		view[pairs[n]] = pairs[n+1]
	}
	if view["port"] != strconv.Itoa(primary.Port()) || view["flags"] != "master" ||
		view["num-slaves"] != "1" || view["num-other-sentinels"] != "2" {
		return fmt.Errorf("%s says %v", s.name, view)
	}
	return nil
}

// Failover makes the replica the primary while both run, and returns when the
// Sentinels name it. Use AwaitOK to wait for the rest.
func (w *Watch) Failover() {
	w.t.Helper()
	old := w.Primary()
	w.sentinels[0].await("a failover begins", func() (bool, error) {
		_, err := w.sentinels[0].Do("SENTINEL", "FAILOVER", MasterSet)
		return err == nil, err // INPROG, or NOGOODSLAVE for a moment
	})
	w.AwaitFailover(old)
}

// AwaitFailover waits until the Sentinels name another primary than old, and
// that one takes writes.
func (w *Watch) AwaitFailover(old *Instance) {
	w.t.Helper()
	w.sentinels[0].await("a failover", func() (bool, error) {
		now, err := w.primary()
		if err != nil || now == old {
			return false, err
		}
		info, err := now.Info("replication")
		return err == nil && info["role"] == "master", err
	})
}

// DetachReplica cuts the replica's link and keeps it from coming back, so that
// what is written from now on is lost in the next failover. It stays fit for
// being chosen for about 20 seconds.
func (w *Watch) DetachReplica() {
	w.t.Helper()
	primary := w.Primary()
	replica := w.other(primary)
	replica.configure("masteruser", "nobody", "masterauth", "wrong")
	primary.Must("CLIENT", "KILL", "TYPE", "replica")
	replica.await("the link is down", func() (bool, error) {
		info, err := replica.Info("replication")
		return err == nil && info["master_link_status"] == "down", err
	})
}

// AttachReplica undoes DetachReplica, on both servers that run.
func (w *Watch) AttachReplica() {
	for _, s := range w.servers {
		_, _ = s.Do("CONFIG", "SET", "masteruser", adminName) // one may be down
		_, _ = s.Do("CONFIG", "SET", "masterauth", adminPassword)
	}
}
