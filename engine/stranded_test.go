package engine_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// work does nothing until it is run again.
var work = localexec.Handle("work", func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
	if !run.Restarted() {
		<-ctx.Done()
		return "", context.Cause(ctx)
	}
	return "done", run.Progress(ctx, 50, "")
}, localexec.Restartable())

var another = localexec.Handle("another", approval, localexec.Restartable())

// joinWithout adds a node that has none of the fleet's handlers.
func (f *fleet) joinWithout() *fleetNode {
	can := f.opts
	f.opts = []localexec.Option{another}
	defer func() { f.opts = can }()
	return f.join()
}

func (f *fleet) wantStranded(n *fleetNode, task engine.Task, before ...string) {
	f.Helper()
	events := f.wantLog(task, append(before, "FAILED")...)
	end := string(events[len(events)-1].Payload)
	if !strings.Contains(end, `"code":"WORKER_LOST"`) || !strings.Contains(end, `"retryable":true`) {
		f.Errorf("the end is %s", end)
	}
	// Once every five minutes and not at once.
	const words = "waits for a node that can run it"
	if said := strings.Count(n.log.String(), words); said != 3 {
		f.Errorf("the node says so %d times: %s", said, n.log.String())
	}
}

// A lost worker's task that no living node has a handler for is spoken of, and
// given up after a while.
func TestNobodyCanRunIt(t *testing.T) {
	newFleet(t, 1, func(f *fleet) {
		task := f.nodes[0].create(t, "work")
		synctest.Wait()
		f.die(f.nodes[0])
		n := f.joinWithout()
		time.Sleep(15 * time.Minute)
		f.wantLog(task, "STARTED")
		time.Sleep(2 * time.Minute)
		f.wantStranded(n, task, "STARTED")
		if got := n.metrics.get(engine.MetricTaskFailures, ""); got != 1 {
			t.Errorf("%d failures were counted", got)
		}
	}, work)
}

// An engine without an executor sees to lost workers too, and can run nothing.
func TestNobodyCanRunAnything(t *testing.T) {
	newFleet(t, 1, func(f *fleet) {
		task, waits := f.nodes[0].create(t, "work"), f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		api := newNode(f.T, &node{leased: f.shared})
		time.Sleep(2 * leaseTTL)
		res, err := api.act(waits.ID, waits.ID+"-1", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		time.Sleep(14 * time.Minute)
		f.wantLog(task, "STARTED")
		f.wantLog(waits, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED")
		time.Sleep(4 * time.Minute)
		f.wantLog(task, "STARTED", "FAILED")
		f.wantLog(waits, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "FAILED")
	}, work, restartable)
}

// Somebody can before that.
func TestSomebodyCanRunItLater(t *testing.T) {
	newFleet(t, 1, func(f *fleet) {
		task := f.nodes[0].create(t, "work")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(60 * time.Hour) // nobody at all
		f.joinWithout()
		time.Sleep(14 * time.Minute)
		f.wantLog(task, "STARTED")
		f.join()
		for left := 100; left > 0 && len(f.nodes[0].events(t, task.ID)) == 1; left-- {
			time.Sleep(5 * time.Second) // whoever looks first gets it for as long
		}
		f.wantLog(task, "STARTED", "RESTARTED", "PROGRESS", "COMPLETED")
	}, work)
}

// The task waits without a process, is answered, and nobody can go on with it.
func TestNobodyCanTakeTheAnswer(t *testing.T) {
	answered := []string{"STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED"}
	park := func(f *fleet) (engine.Task, *fleetNode) {
		task := f.nodes[0].create(f.T, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		n := f.joinWithout()
		time.Sleep(time.Hour)
		res, err := n.act(task.ID, task.ID+"-1", "c", "yes", "")
		wantStatus(f.T, res, err, engine.ActionStatusAccepted)
		return task, n
	}
	newFleet(t, 1, func(f *fleet) {
		task, n := park(f)
		time.Sleep(15 * time.Minute)
		f.wantLog(task, answered...)
		time.Sleep(2 * time.Minute)
		f.wantStranded(n, task, answered...)
	}, restartable)
	newFleet(t, 1, func(f *fleet) { // somebody can before that
		task, n := park(f)
		f.die(n)
		time.Sleep(60 * time.Hour) // nobody at all
		f.joinWithout()
		time.Sleep(13 * time.Minute)
		f.wantLog(task, answered...)
		f.join()
		for left := 100; left > 0 && len(f.nodes[0].events(t, task.ID)) == len(answered); left-- {
			time.Sleep(5 * time.Second)
		}
		f.wantLog(task, append(answered, "RESTARTED", "PROGRESS", "COMPLETED")...)
	}, restartable)
}

// A run that takes its time to come to its question has its answer coming.
func TestAnswerWaitsForASlowRun(t *testing.T) {
	slow := func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		if run.Restarted() {
			select {
			case <-time.After(time.Hour):
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
		a, err := run.Suspend(ctx, question("s"))
		return a.ActionType, err
	}
	newFleet(t, 1, func(f *fleet) {
		task := f.nodes[0].create(t, "slow")
		synctest.Wait()
		f.die(f.nodes[0])
		n := f.joinWithout()
		time.Sleep(2 * leaseTTL)
		res, err := n.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		time.Sleep(10 * time.Minute)
		f.join()
		time.Sleep(59 * time.Minute)
		f.wantLog(task, "STARTED", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED")
		time.Sleep(5 * time.Minute)
		f.wantLog(task, "STARTED", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "COMPLETED")
	}, localexec.Handle("slow", slow, localexec.Restartable()))
}

// A setting.
func TestRestartWithin(t *testing.T) {
	for within, want := range map[time.Duration][]string{
		-1:              {"STARTED"},
		time.Hour:       {"STARTED"},
		2 * time.Minute: {"STARTED", "FAILED"},
	} {
		newFleet(t, 1, func(f *fleet) {
			task := f.nodes[0].create(t, "work")
			synctest.Wait()
			f.die(f.nodes[0])
			f.lease.RestartWithin = within
			f.joinWithout()
			time.Sleep(30 * time.Minute)
			f.wantLog(task, want...)
		}, work)
	}
}
