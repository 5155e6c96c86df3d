package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// BenchmarkSSE is one round after the other: events are appended at once, the
// bridge writes them to every subscriber, and all have read them. The server
// has one core; x-bare is its CPU time over that of a bare write(2) loop which
// writes the same bytes to the same sockets between the rounds.
func BenchmarkSSE(b *testing.B) { benchDelivery(b, overSSE) }

// BenchmarkWebSocket is the same over WebSockets.
func BenchmarkWebSocket(b *testing.B) { benchDelivery(b, overWebSocket) }

func benchDelivery(b *testing.B, via transport) {
	for _, events := range []int{1, 32} {
		b.Run(fmt.Sprintf("subscribers=2000/events=%d", events), func(b *testing.B) {
			newDelivery(b, memory(b), via, 1, 2000, events).measure(b)
		})
	}
}

// BenchmarkManyTasks is the same with a task for each subscriber.
func BenchmarkManyTasks(b *testing.B) {
	for _, via := range []transport{overSSE, overWebSocket} {
		b.Run(fmt.Sprintf("%s/tasks=2000", via), func(b *testing.B) {
			newDelivery(b, memory(b), via, 2000, 2000, 1).measure(b)
		})
	}
}

// delivery is tasks with subscribers, all of whom are at the end.
type delivery struct {
	host   *host
	crowd  *crowd
	tasks  []string
	events []engine.Draft
	bare   yardstick
}

// newDelivery closes the store at the end.
func newDelivery(tb testing.TB, store engine.Store, via transport, tasks, subscribers, events int) *delivery {
	tb.Helper()
	cpu := onOneCore(tb)
	d := &delivery{
		host:   startHost(tb, store, fanout.Config{FlushInterval: -1}),
		events: messages(events),
	}
	bytes := d.host.sample(via, d.host.task().ID, d.events)
	d.host.forget()

	var hellos []hello
	for range tasks {
		id := d.host.task().ID
		d.tasks = append(d.tasks, id)
		hellos = append(hellos, via.hello(id))
	}
	d.crowd = startCrowd(tb, crowdJob{Addr: d.host.addr, Count: subscribers, CPU: cpu, Hellos: hellos})
	d.bare = yardstick{bytes: bytes, crowd: d.crowd, events: events}
	if d.bare.sockets = d.host.sockets(); len(d.bare.sockets) != subscribers {
		tb.Fatalf("%d sockets for %d subscribers", len(d.bare.sockets), subscribers)
	}
	for range 3 { // the first round ends when all are subscribed
		d.round()
	}
	d.bare.run(tb, 1)
	d.bare.deliveries, d.bare.took, d.bare.cpu = 0, 0, 0
	return d
}

// round is one delivery of the events of each task to each of its subscribers.
func (d *delivery) round() {
	d.crowd.expect(d.crowd.size * len(d.events))
	for _, id := range d.tasks {
		d.host.append(d.host.tb.Context(), id, d.events)
	}
	d.crowd.wait()
}

func (d *delivery) measure(b *testing.B) {
	each := d.crowd.size * len(d.events)
	// The yardstick has its turn after each so many rounds: both meet the same
	// machine.
	block := max(1, 4000/d.crowd.size)
	b.ReportAllocs()
	var cpu time.Duration
	rounds, since := 0, cpuTime()
	for b.Loop() {
		d.round()
		if rounds++; rounds%block == 0 {
			b.StopTimer()
			cpu += cpuTime() - since
			d.bare.run(b, block)
			since = cpuTime()
			b.StartTimer()
		}
	}
	b.StopTimer()
	cpu += cpuTime() - since
	if d.bare.deliveries == 0 {
		d.bare.run(b, block)
	}
	deliveries := float64(rounds * each)
	ours, bare := float64(cpu)/deliveries, float64(d.bare.cpu)/float64(d.bare.deliveries)
	b.ReportMetric(float64(b.Elapsed())/deliveries, "ns/delivery")
	b.ReportMetric(ours, "cpu-ns/delivery")
	b.ReportMetric(bare, "bare-cpu-ns/delivery")
	b.ReportMetric(ours/bare, "x-bare")
	b.ReportMetric(allocated(min(allocRounds, 10*block), d.round), "allocs/round")
	d.reportCalls(b, block)
	if err := d.crowd.settle(); err != nil {
		b.Error(err)
	}
}

// reportCalls counts the system calls of some more rounds.
func (d *delivery) reportCalls(b *testing.B, rounds int) {
	counted, err := trace(b, func() {
		for range rounds {
			d.round()
		}
	})
	if err != nil {
		b.Logf("system calls are not counted: %v", err)
		return
	}
	// A flush is one write, however many events are in it.
	flushes := float64(rounds * d.crowd.size)
	b.ReportMetric(float64(counted.writes())/flushes, "writes/flush")
	b.ReportMetric(float64(counted.all())/flushes, "syscalls/flush")
}
