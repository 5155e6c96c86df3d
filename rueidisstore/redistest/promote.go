package redistest

import (
	"fmt"
	"strconv"
	"testing"
)

// Pair starts a primary and a replica that is in sync with it, without Sentinels.
func Pair(t testing.TB, opts ...Option) (primary, replica *Instance) {
	t.Helper()
	primary = Server(t, opts...)
	replica = Server(t, opts...)
	replica.Follow(primary)
	return primary, replica
}

// Follow makes the server a replica of primary and returns when it is in sync. Its
// clients stay connected.
func (i *Instance) Follow(primary *Instance) {
	i.t.Helper()
	i.configure("masteruser", adminName, "masterauth", adminPassword)
	i.Must("REPLICAOF", "127.0.0.1", strconv.Itoa(primary.Port()))
	i.await("it is in step with its primary", func() (bool, error) {
		info, err := i.Info("replication")
		ok := info["role"] == "slave" && info["master_link_status"] == "up" && info["master_port"] == strconv.Itoa(primary.Port())
		return ok, fmt.Errorf("it says %v, %w", info, err)
	})
}

// HandOver makes heir, a replica, the primary, and the server heir's replica, without
// losing a write. The server's clients stay connected.
func (i *Instance) HandOver(heir *Instance) {
	i.t.Helper()
	heir.configure("masteruser", adminName, "masterauth", adminPassword)
	i.configure("masteruser", adminName, "masterauth", adminPassword)
	i.await("it hands over to a replica that is in step", func() (bool, error) {
		_, err := i.Do("FAILOVER", "TO", "127.0.0.1", strconv.Itoa(heir.Port()))
		return err == nil, err
	})
	for want, s := range map[string]*Instance{"master": heir, "slave": i} {
		s.await("it has its new role", func() (bool, error) {
			info, err := s.Info("replication")
			return info["role"] == want, fmt.Errorf("it says %v, %w", info, err)
		})
	}
}

// Promote makes a replica a primary without asking its own primary.
func (i *Instance) Promote() {
	i.t.Helper()
	i.Must("REPLICAOF", "NO", "ONE")
}
