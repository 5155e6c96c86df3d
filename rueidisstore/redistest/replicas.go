package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

// ClusterWithReplicas is Cluster with a replica for each primary.
func ClusterWithReplicas(t testing.TB, opts ...Option) *Nodes {
	t.Helper()
	c := Cluster(t, opts...)
	for n := range c.all {
		replica := c.node(fmt.Sprintf("replica of cluster node %d", n), opts)
		c.meet(replica)
		replica.await("it knows its primary", func() (bool, error) {
			_, err := replica.Do("CLUSTER", "REPLICATE", c.ids[n])
			return err == nil, err
		})
		c.replicas = append(c.replicas, replica)
	}
	for n := range c.all {
		c.awaitInStep(c.all[n], c.replicas[n])
	}
	c.AwaitOK()
	return c
}

// Replicas are those of Nodes, in the same order.
func (c *Nodes) Replicas() []*Instance { return slices.Clone(c.replicas) }

func (c *Nodes) awaitInStep(primary, replica *Instance) {
	c.t.Helper()
	replica.await("the replica is in step", func() (bool, error) {
		info, err := replica.Info("replication")
		ok := info["role"] == "slave" && info["master_link_status"] == "up" && info["master_port"] == strconv.Itoa(primary.Port())
		return ok, fmt.Errorf("it says %v, %w", info, err)
	})
	primary.await("the replica is in step", func() (bool, error) {
		info, err := primary.Info("replication")
		return info["connected_slaves"] == "1", fmt.Errorf("the primary says %v, %w", info, err)
	})
}

// AwaitReplicated waits until replica has what the server has by now.
func (i *Instance) AwaitReplicated(replica *Instance) {
	i.t.Helper()
	info, err := i.Info("replication")
	if err != nil {
		i.t.Fatalf("redistest: %s: %v", i.name, err)
	}
	want, err := strconv.ParseUint(info["master_repl_offset"], 10, 64)
	if err != nil {
		i.t.Fatalf("redistest: %s: %v", i.name, err)
	}
	replica.await("it has what its primary has", func() (bool, error) {
		info, err := replica.Info("replication")
		if err != nil {
			return false, err
		}
		have, err := strconv.ParseUint(info["slave_repl_offset"], 10, 64)
		return err == nil && have >= want, fmt.Errorf("it has %d of %d, %w", have, want, err)
	})
}

// DetachReplica cuts the link of a primary's replica, so that what is written to
// the n-th slots from now on is lost when the replica takes over.
func (c *Nodes) DetachReplica(n int) {
	c.t.Helper()
	replica := c.replicas[n]
	replica.configure("masteruser", "nobody", "masterauth", "wrong")
	c.all[n].Must("CLIENT", "KILL", "TYPE", "replica")
	replica.await("the link is down", func() (bool, error) {
		info, err := replica.Info("replication")
		return err == nil && info["master_link_status"] == "down", err
	})
}

// KillPrimary kills a primary and returns when its replica has taken over and the
// Cluster is well again. Nodes has the replica in its place from then on.
func (c *Nodes) KillPrimary(n int) {
	c.t.Helper()
	heir := c.replicas[n]
	c.all[n].Kill()
	heir.await("the replica takes over", func() (bool, error) {
		info, err := heir.Info("replication")
		return info["role"] == "master", err
	})
	c.all[n], c.replicas[n] = heir, c.all[n]
	c.ids[n] = text(heir.Must("CLUSTER", "MYID"))
	heir.configure("masteruser", adminName, "masterauth", adminPassword)
	c.AwaitOK()
}

// RestartReplica brings back what KillPrimary has killed, and returns when it is
// in step with who took its place.
func (c *Nodes) RestartReplica(n int) {
	c.t.Helper()
	c.replicas[n].Start()
	c.awaitInStep(c.all[n], c.replicas[n])
	c.AwaitOK()
}
