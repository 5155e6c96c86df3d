package bench

import "testing"

// The budgets of the hot path. They are counts and hold on any machine; what
// depends on one is a benchmark.

// TestDeliveryAllocatesNothing: what a flush allocates does not depend on how
// many subscribers it goes to.
func TestDeliveryAllocatesNothing(t *testing.T) {
	eachTransport(t, func(t *testing.T, via transport) {
		const subscribers, rounds = 400, 25
		d := newDelivery(t, memory(t), via, 1, subscribers, 2)
		perFlush := allocated(rounds, d.round)
		t.Logf("%.1f allocations a flush to %d subscribers", perFlush, subscribers)
		// Appending two events, their shared buffer and the wait for the readers
		// take about a dozen.
		if perFlush > 40 {
			t.Errorf("%.1f allocations a flush to %d subscribers, want a number that does not grow with them", perFlush, subscribers)
		}
		if err := d.crowd.settle(); err != nil {
			t.Error(err)
		}
	})
}

// TestDeliveryIsOneWrite: a flush is one write to each subscriber, however many
// events are in it, and next to no other system call.
func TestDeliveryIsOneWrite(t *testing.T) {
	eachTransport(t, func(t *testing.T, via transport) {
		const subscribers, rounds = 200, 5
		d := newDelivery(t, memory(t), via, 1, subscribers, 8)
		counted, err := trace(t, func() {
			for range rounds {
				d.round()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d flushes to %d subscribers: %v", rounds, subscribers, counted)
		const flushes = subscribers * rounds
		// The wake-up of a poller is a write, too.
		if n := counted.writes(); n < flushes || n > flushes+8*rounds {
			t.Errorf("%d writes for %d flushes, want one each", n, flushes)
		}
		// A write that did not block makes no event of any epoll: what is left
		// are the waits for the readers.
		if n := counted.polls(); n > flushes/5 {
			t.Errorf("%d calls of epoll for %d flushes, want a number that does not grow with them", n, flushes)
		}
		if n := counted.all(); n > flushes+flushes/4 {
			t.Errorf("%d system calls for %d flushes, want few besides the writes: %v", n, flushes, counted)
		}
		if err := d.crowd.settle(); err != nil {
			t.Error(err)
		}
	})
}

func eachTransport(t *testing.T, do func(t *testing.T, via transport)) {
	for _, via := range []transport{overSSE, overWebSocket} {
		t.Run(string(via), func(t *testing.T) { do(t, via) })
	}
}
