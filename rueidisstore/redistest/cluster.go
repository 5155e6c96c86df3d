package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// slots is how many hash slots a Cluster has.
const slots = 16384

// oldBusOffset is where Redis before 7.0 has the Cluster's bus.
const oldBusOffset = 10_000

// Nodes is a Cluster of primaries.
type Nodes struct {
	t   testing.TB
	all []*Instance
	ids []string
	// replicas of the primaries, in their order; none if made by Cluster.
	replicas []*Instance
}

// Cluster starts three primaries that share the slots and returns when each of
// them says that the Cluster is well.
func Cluster(t testing.TB, opts ...Option) *Nodes {
	t.Helper()
	const primaries = 3
	c := &Nodes{t: t}
	for n := range primaries {
		node := c.node(fmt.Sprintf("cluster node %d", n), opts)
		c.all = append(c.all, node)
		c.ids = append(c.ids, text(node.Must("CLUSTER", "MYID")))
	}
	for n, node := range c.all {
		node.Must("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(n+1))
		from, to := n*slots/primaries, (n+1)*slots/primaries-1
		add := []string{"CLUSTER", "ADDSLOTS"} // 7.0 has ADDSLOTSRANGE
		for slot := from; slot <= to; slot++ {
			add = append(add, strconv.Itoa(slot))
		}
		node.Must(add...)
	}
	for _, node := range c.all[1:] {
		c.meet(node)
	}
	c.AwaitOK()
	c.AwaitAgreement()
	return c
}

func (c *Nodes) node(name string, opts []Option) *Instance {
	c.t.Helper()
	bus := ""
	if major(c.t) >= 7 { // before, it was always at port + 10000
		bus = "cluster-port " + strconv.Itoa(freePort(c.t))
	}
	return start(c.t, name, func(int) []string {
		return []string{
			"cluster-enabled yes",
			bus,
			"cluster-node-timeout 3000",
			// Clients must not see the nodes before they know each other.
			"cluster-require-full-coverage yes",
			"cluster-replica-validity-factor 0", // however long it was cut off
			"masteruser " + adminName,
			"masterauth " + adminPassword,
			"repl-ping-replica-period 1",
		}
	}, opts)
}

func (c *Nodes) meet(node *Instance) {
	c.t.Helper()
	bus := strconv.Itoa(node.Port() + oldBusOffset)
	if major(c.t) >= 7 {
		bus = configLine(node, "cluster-port")
	}
	c.all[0].Must("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(node.Port()), bus)
}

func configLine(i *Instance, name string) string {
	i.t.Helper()
	pair := texts(i.Must("CONFIG", "GET", name))
	if len(pair) != 2 {
		i.t.Fatalf("redistest: no %s in the configuration of %s", name, i.name)
	}
	return pair[1]
}

// AwaitOK waits until every node knows all others and sees all slots served.
func (c *Nodes) AwaitOK() {
	c.t.Helper()
	for _, node := range c.all {
		node.await("the Cluster is well", func() (bool, error) {
			reply, err := node.Do("CLUSTER", "INFO")
			if err != nil {
				return false, err
			}
			info := fields(text(reply), "\r\n", ":")
			ok := info["cluster_state"] == "ok" &&
				info["cluster_known_nodes"] == strconv.Itoa(len(c.all)+len(c.replicas)) &&
				info["cluster_slots_ok"] == strconv.Itoa(slots)
			return ok, fmt.Errorf("%v", info)
		})
	}
}

// Nodes are the primaries.
func (c *Nodes) Nodes() []*Instance { return slices.Clone(c.all) }

// Addrs are their addresses.
func (c *Nodes) Addrs() []string {
	var addrs []string
	for _, node := range c.all {
		addrs = append(addrs, node.Addr())
	}
	return addrs
}

// Slot is the hash slot of a key.
func (c *Nodes) Slot(key string) int {
	c.t.Helper()
	slot, _ := c.all[0].Must("CLUSTER", "KEYSLOT", key).(int64)
	return int(slot)
}

// Owner is the node that serves slot, and its place in Nodes.
func (c *Nodes) Owner(slot int) (*Instance, int) {
	c.t.Helper()
	for n, node := range c.all {
		if servesSlot(text(node.Must("CLUSTER", "NODES")), slot) {
			return node, n
		}
	}
	c.t.Fatalf("redistest: nobody serves slot %d", slot)
	return nil, 0
}

// servesSlot reads a node's own line of CLUSTER NODES.
func servesSlot(nodes string, slot int) bool {
	for line := range strings.Lines(nodes) {
		f := strings.Fields(line)
		if len(f) < 8 || !strings.Contains(f[2], "myself") {
			continue
		}
		for _, r := range f[8:] {
			if strings.HasPrefix(r, "[") {
				continue // a slot on the move
			}
			from, to, ok := strings.Cut(r, "-")
			if !ok {
				to = from
			}
			a, _ := strconv.Atoi(from)
			b, _ := strconv.Atoi(to)
			if a <= slot && slot <= b {
				return true
			}
		}
	}
	return false
}

// MigrateSlot is MigrateSlots for one.
func (c *Nodes) MigrateSlot(slot int) {
	c.t.Helper()
	c.MigrateSlots(slot)
}

// MigrateSlots moves slots with all their keys to the next node while clients go
// on using them, a key at a time, and returns when all nodes agree on it.
//
// Slots of one node move together. A node that gave a slot away and at once
// takes another one could still have a message on its way in which it claims
// the first, with the epoch that it has for the second: then nobody serves it.
func (c *Nodes) MigrateSlots(slots ...int) {
	c.t.Helper()
	byOwner := make([][]int, len(c.all))
	for _, slot := range slots {
		_, n := c.Owner(slot)
		if !slices.Contains(byOwner[n], slot) {
			byOwner[n] = append(byOwner[n], slot)
		}
	}
	for _, of := range byOwner {
		for _, slot := range of {
			m := c.BeginMigration(slot)
			for m.MoveKeys(1) > 0 {
			}
			m.Finish()
		}
		if len(of) > 0 {
			c.AwaitAgreement()
		}
	}
}

// AwaitAgreement waits until all nodes tell the same of who serves what.
func (c *Nodes) AwaitAgreement() {
	c.t.Helper()
	c.all[0].await("the nodes agree", func() (bool, error) {
		var views []string
		for _, node := range c.all {
			reply, err := node.Do("CLUSTER", "NODES")
			if err != nil {
				return false, err
			}
			views = append(views, view(text(reply)))
		}
		agreed := slices.Equal(slices.Compact(slices.Clone(views)), views[:1])
		return agreed, fmt.Errorf("they say %q", views)
	})
}

// view is what a node knows of all: ids, epochs and slots.
func view(nodes string) string {
	var all []string
	for line := range strings.Lines(nodes) {
		if f := strings.Fields(line); len(f) >= 8 {
			settled := slices.DeleteFunc(f[8:], func(r string) bool { return strings.HasPrefix(r, "[") })
			all = append(all, f[0]+" "+f[6]+" "+strings.Join(settled, " "))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// Migration is a slot on the move.
type Migration struct {
	c        *Nodes
	slot     string
	from, to int
}

// BeginMigration opens slot for a move to the next node. Its keys stay where
// they are until MoveKeys.
func (c *Nodes) BeginMigration(slot int) *Migration {
	c.t.Helper()
	_, from := c.Owner(slot)
	m := &Migration{c: c, slot: strconv.Itoa(slot), from: from, to: (from + 1) % len(c.all)}
	c.all[m.to].Must("CLUSTER", "SETSLOT", m.slot, "IMPORTING", c.ids[m.from])
	c.all[m.from].Must("CLUSTER", "SETSLOT", m.slot, "MIGRATING", c.ids[m.to])
	return m
}

// MoveKeys moves up to n keys and returns how many there were.
func (m *Migration) MoveKeys(n int) int {
	m.c.t.Helper()
	from, to := m.c.all[m.from], m.c.all[m.to]
	keys := texts(from.Must("CLUSTER", "GETKEYSINSLOT", m.slot, strconv.Itoa(n)))
	if len(keys) == 0 {
		return 0
	}
	from.Must(append([]string{
		"MIGRATE", "127.0.0.1", strconv.Itoa(to.Port()), "", "0", "15000",
		"AUTH2", adminName, adminPassword, "KEYS",
	}, keys...)...)
	return len(keys)
}

// Finish gives the slot to its new node. No key may be left behind.
func (m *Migration) Finish() {
	m.c.t.Helper()
	// The new owner first: there is always one.
	order := []*Instance{m.c.all[m.to], m.c.all[m.from]}
	for n, node := range m.c.all {
		if n != m.to && n != m.from {
			order = append(order, node)
		}
	}
	for _, node := range order {
		node.Must("CLUSTER", "SETSLOT", m.slot, "NODE", m.c.ids[m.to])
	}
}
