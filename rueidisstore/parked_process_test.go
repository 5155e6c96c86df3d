//go:build unix

package rueidisstore

import (
	"strings"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The process that took a cancel request for a task without a process dies before
// the task is over: another one ends it.
func TestKilledWhileItCancelsAParkedTask(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b := open(t, cfg)
	first := startHost(t, cfg, "")
	id := asked(t, b, first, `{}`)
	first.kill()
	second := startHost(t, cfg, afterCancel)
	awaitParked(t, b, id)
	second.do("cancel " + id)
	second.awaitDeath()
	if got := b.get(id); !got.CancelRequested || got.Status.Terminal() {
		t.Fatalf("the task is %+v", got)
	}
	startHost(t, cfg, "")
	eventually(t, "the end", func() bool { return b.get(id).Status == engine.StatusCancelled })
	if got, want := story(b, id), "STARTED MESSAGE(asking) SUSPENDED CANCELLED"; got != want {
		t.Errorf("the log is %s, want %s", got, want)
	}
}

// Two questions are open when the last process dies. One is answered, by a process
// that dies with it; then the other, too.
func TestKilledWithTwoQuestions(t *testing.T) {
	t.Parallel()
	for _, dies := range []string{afterResolve, beforeResume, afterResume, beforeHandedOver} {
		t.Run(dies, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			b := open(t, cfg)
			first := startHost(t, cfg, "")
			id := asked(t, b, first, `{"two":true}`)
			first.kill()
			for _, answer := range []string{"t", "c"} {
				accepting := startHost(t, cfg, dies)
				awaitParked(t, b, id)
				accepting.do("answer " + id + " " + answer)
				accepting.awaitDeath()
				next := startHost(t, cfg, "")
				if got := next.do("answer " + id + " " + answer); got != string(engine.ActionStatusDeduplicated) {
					t.Errorf("the repeated answer gave %s", got)
				}
				eventually(t, "the task has the answer", func() bool {
					// The run that has both tells of them in either order.
					all := story(b, id)
					return strings.Contains(all[max(strings.LastIndex(all, "ACTION_ACCEPTED"), 0):], "MESSAGE(answered approve "+answer+")")
				})
				if answer == "t" {
					next.kill() // and with it the run that waits for s
				}
			}
			eventually(t, "the end", func() bool { return b.get(id).Status == engine.StatusCompleted })
			const want = "STARTED MESSAGE(asking) SUSPENDED SUSPENDED ACTION_ACCEPTED MESSAGE(answered approve t) "
			got := workOf(b, id)
			if !strings.HasPrefix(got, want) || strings.Count(got, "ACTION_ACCEPTED") != 2 || strings.Count(got, "COMPLETED") != 1 {
				t.Errorf("the log is %s", got)
			}
		})
	}
}
