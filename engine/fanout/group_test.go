package fanout

import (
	"math/rand/v2"
	"testing"
)

// TestGroupKeepsItsMembersInOrder removes members at random while a pass is
// under way: every other one stays where it says that it is, and on its side of
// what was visited.
func TestGroupKeepsItsMembersInOrder(t *testing.T) {
	for range 2000 {
		g := &group{}
		seen := map[*sub]bool{}
		for i := range 1 + rand.IntN(20) {
			g.members = append(g.members, &sub{index: uint32(i)})
		}
		g.visited = rand.IntN(len(g.members) + 1)
		for i, s := range g.members {
			seen[s] = i < g.visited
		}
		for len(g.members) > 0 {
			gone := g.members[rand.IntN(len(g.members))]
			g.remove(gone)
			delete(seen, gone)
			if len(g.members) != len(seen) {
				t.Fatalf("%d members are left, want %d", len(g.members), len(seen))
			}
			for i, s := range g.members {
				before, there := seen[s]
				if !there || int(s.index) != i || before != (i < g.visited) {
					t.Fatalf("member %d of %d, visited %d: index %d, had its turn %v, there %v",
						i, len(g.members), g.visited, s.index, before, there)
				}
			}
		}
	}
}
