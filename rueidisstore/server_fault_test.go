package rueidisstore_test

import (
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

func at(addrs ...string) rueidis.ClientOption { return rueidis.ClientOption{InitAddress: addrs} }

// lateJoiners follow every busy task from the middle of what was acknowledged.
func (tr *trial) lateJoiners() {
	tr.Helper()
	for _, l := range tr.loads {
		if l.quiet {
			continue
		}
		var cursor engine.EventID
		tr.persist("read a page", func() error {
			page, err := tr.reader.Read(tr.Context(), l.task.ID, engine.EventID{}, int(1+l.acked.Load()/2))
			if err == nil && len(page.Events) > 0 {
				cursor = page.Events[len(page.Events)-1].ID
			}
			return err
		})
		tr.follow(l, cursor)
		tr.subscribe(l, cursor)
	}
}

func TestFaultServerKilledAndRestarted(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.AppendOnly("always"))
	tr := newTrial(t, at(server.Addr()), 12, 4)
	tr.start()
	for range 2 {
		tr.awaitProgress(30)
		server.Restart()
	}
	tr.awaitProgress(20)
	server.Kill()
	time.Sleep(time.Second) // the fault itself: longer than any quick retry
	server.Start()
	tr.awaitProgress(20)
	tr.lateJoiners()
	tr.awaitProgress(20)
	tr.finish()
	tr.verify(keepsAll)
}

func TestFaultConnectionsCutOneByOne(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	tr := newTrial(t, at(server.Addr()), 12, 4)
	tr.start()
	tr.awaitProgress(20)
	for i := range 40 {
		server.CutConnection(i)
		if i%20 == 0 {
			tr.lateJoiners()
		}
		tr.awaitProgress(2)
	}
	tr.finish()
	tr.verify(keepsAll)
}

func TestFaultAllConnectionsCutAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	tr := newTrial(t, at(server.Addr()), 12, 4)
	tr.start()
	for range 15 {
		eventually(t, "there are connections to cut", func() bool {
			tr.awaitProgress(20)
			return server.CutConnections() > 0
		})
	}
	tr.lateJoiners()
	tr.awaitProgress(20)
	tr.finish()
	tr.verify(keepsAll)
}

// pause stops a server for 5 seconds, longer than a hung one takes to be noticed.
func (tr *trial) pause(server *redistest.Instance) {
	tr.Helper()
	server.Pause()
	time.Sleep(5 * time.Second) // the fault itself
	server.Resume()
}

func TestFaultServerPaused(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	tr := newTrial(t, at(server.Addr()), 12, 4)
	tr.start()
	tr.awaitProgress(50)
	tr.pause(server)
	tr.lateJoiners()
	tr.awaitProgress(50)
	tr.finish()
	tr.verify(keepsAll)
}

// TestFaultAnswersLost cuts connections after the server has done what it was
// asked and before anybody knows.
func TestFaultAnswersLost(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	wire := redistest.NewWire(t, server.Addr())
	tr := newTrial(t, at(wire.Addr()), 12, 4)
	tr.start()
	for range 15 {
		eventually(t, "an answer gets lost", func() bool {
			tr.awaitProgress(5)
			return wire.LoseAnswers(20*time.Millisecond) > 0
		})
	}
	tr.lateJoiners()
	tr.finish()
	tr.verify(keepsAll)
}
