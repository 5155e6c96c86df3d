package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// loopSilence is what the loops take for a dead connection here, and
// loopHeartbeat the host's interval.
const (
	loopSilence   = 4 * time.Second
	longSilence   = 8 * time.Second // where the connection must not be taken for dead
	loopHeartbeat = "1s"
)

// loopConfig is what the programs in testdata/loops are given.
type loopConfig struct {
	Base    string      `json:"base"`
	Tasks   [][2]string `json:"tasks"` // ids and cursors
	Tokens  []string    `json:"tokens"`
	Silence int64       `json:"silence"` // milliseconds
}

// loop is one of the loops of docs/clients.md, on one platform.
type loop struct {
	name string
	// many: it follows several tasks at once.
	many bool
	// start runs it against the host at the other end of a line.
	start func(t *testing.T, l *line, c loopConfig) (said func() []string)
	// line puts a network in front of the host.
	line func(t *testing.T, host *demoHost) *line
}

// TestLoopsOfTheDocs runs each loop of docs/clients.md, as it stands there,
// through what happens to clients.
func TestLoopsOfTheDocs(t *testing.T) {
	t.Parallel()
	host := startHost(t, "-heartbeat", loopHeartbeat)
	short := startHost(t, "-heartbeat", loopHeartbeat, "-max-stream-length", "10")
	for _, p := range loops(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			t.Run("to the end", func(t *testing.T) {
				r := follow(t, p, host, create(t, host.url, "tokens", map[string]any{"count": 30, "intervalMs": 5}), "")
				r.over("")
				r.dense(1, 32)
			})
			t.Run("a cut", func(t *testing.T) {
				task, answer := asking(t, host)
				r := follow(t, p, host, task, "")
				r.waitEvents(2)
				r.line.cut()
				answer()
				r.over("")
				r.dense(1, 4)
			})
			t.Run("a connection that went silent", func(t *testing.T) {
				task, answer := asking(t, host)
				r := follow(t, p, host, task, "")
				r.waitEvents(2)
				r.line.silence()
				answer()
				r.over("")
				r.dense(1, 4)
			})
			t.Run("quiet, and alive", func(t *testing.T) {
				task, answer := asking(t, host)
				r := followWith(t, p, host, longSilence, task, "")
				r.waitEvents(2)
				before := r.line.connections()
				r.line.listen()
				still(t, "one connection", longSilence+longSilence/2, func() bool {
					// On a machine that stood still the host was silent indeed.
					return r.line.connections() == before || r.line.longestQuiet() > longSilence/2
				})
				answer()
				r.over("")
				r.dense(1, 4)
			})
			t.Run("credentials that expire", func(t *testing.T) {
				task, answer := asking(t, host)
				r := follow(t, p, host, task, "", fmt.Sprintf("alice;exp=%d", time.Now().Add(2*time.Second).Unix()), "alice")
				r.wait("it asks for fresh credentials", func(lines []string) bool { return contains(lines, "fresh") })
				answer()
				r.over("")
				r.dense(1, 4)
			})
			t.Run("nothing after the cursor", func(t *testing.T) {
				task := create(t, host.url, "greet", map[string]any{"name": "Ada"})
				r := follow(t, p, host, task, finished(t, host, task))
				r.over("")
				r.dense(1, 0)
			})
			t.Run("a gap", func(t *testing.T) {
				task := create(t, short.url, "tokens", map[string]any{"count": 2000, "intervalMs": 0})
				last := ordinal(finished(t, short, task))
				r := follow(t, p, short, task, "")
				r.over("")
				if !contains(r.said(), "gap") {
					t.Errorf("no gap: %q", r.said())
				}
				first := r.ordinals()[0]
				if first == 1 {
					t.Error("the whole log is there")
				}
				r.dense(first, last)
			})
			t.Run("an unknown task", func(t *testing.T) {
				r := follow(t, p, host, "aaaaaaaaaaaaaaaaaaaaaaaaaa", "")
				r.over("?")
			})
			t.Run("credentials that nobody takes", func(t *testing.T) {
				task, _ := asking(t, host)
				r := follow(t, p, host, task, "", "alice;exp=1")
				r.over("?")
				if n := r.line.connections(); n > 20 { // the page's own, and a few tries
					t.Errorf("%d connections", n)
				}
			})
			if p.many {
				t.Run("many tasks", func(t *testing.T) { manyTasks(t, p, host) })
			}
		})
	}
}

// manyTasks: the first task's end closes the socket before the host has the
// second subscribe. And an unknown task does not take the others with it.
func manyTasks(t *testing.T, p loop, host *demoHost) {
	over := create(t, host.url, "greet", map[string]any{"name": "Ada"})
	last := finished(t, host, over)
	task, answer := asking(t, host)
	l := p.line(t, host)
	l.firstFrameOnly()
	r := &loopRun{t: t, line: l}
	r.said = p.start(t, l, loopConfig{
		Base: l.url + "/api/v1/tasks", Tokens: []string{"alice"}, Silence: (10 * patience).Milliseconds(),
		Tasks: [][2]string{{over, last}, {task, ""}, {"aaaaaaaaaaaaaaaaaaaaaaaaaa", ""}},
	})
	r.waitEvents(2)
	answer()
	r.wait("all three are over", func(lines []string) bool { return count(lines, "over ") == 3 })
	r.dense(1, 4)
	if !contains(r.said(), "over "+over+" ") || !contains(r.said(), "over "+task+" ") {
		t.Errorf("it says %q", r.said())
	}
}

// asking starts a task that waits for an answer, which answer gives.
func asking(t *testing.T, host *demoHost) (task string, answer func()) {
	t.Helper()
	task = create(t, host.url, "approval", map[string]any{"question": "Go on?"})
	return task, func() {
		t.Helper()
		var snapshot struct {
			Suspensions []struct{ SuspendID string }
		}
		eventually(t, "it asks", func() bool {
			call(t, http.MethodGet, host.url+"/api/v1/tasks/"+task, nil, http.StatusOK, &snapshot)
			return len(snapshot.Suspensions) == 1
		})
		body := fmt.Sprintf(`{"clientActionId":"a-1","suspendId":%q,"actionType":"approve"}`, snapshot.Suspensions[0].SuspendID)
		call(t, http.MethodPost, host.url+"/api/v1/tasks/"+task+"/actions", []byte(body), http.StatusAccepted, nil)
	}
}

// finished waits until a task is over, and returns its last event's id.
func finished(t *testing.T, host *demoHost, task string) string {
	t.Helper()
	var snapshot struct{ Status, LastEventID string }
	eventually(t, "the task is over", func() bool {
		call(t, http.MethodGet, host.url+"/api/v1/tasks/"+task, nil, http.StatusOK, &snapshot)
		return snapshot.Status == "COMPLETED"
	})
	return snapshot.LastEventID
}

// loopRun is a loop that runs.
type loopRun struct {
	t    *testing.T
	line *line
	said func() []string
}

func follow(t *testing.T, p loop, host *demoHost, task, cursor string, tokens ...string) *loopRun {
	t.Helper()
	return followWith(t, p, host, loopSilence, task, cursor, tokens...)
}

func followWith(t *testing.T, p loop, host *demoHost, silence time.Duration, task, cursor string, tokens ...string) *loopRun {
	t.Helper()
	if len(tokens) == 0 {
		tokens = []string{"alice"}
	}
	l := p.line(t, host)
	return &loopRun{t: t, line: l, said: p.start(t, l, loopConfig{
		Base: l.url + "/api/v1/tasks", Tasks: [][2]string{{task, cursor}}, Tokens: tokens, Silence: silence.Milliseconds(),
	})}
}

func (r *loopRun) wait(what string, holds func(lines []string) bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for !holds(r.said()) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within %s: %s; it says %q", patience, what, r.said())
		}
		time.Sleep(20 * time.Millisecond) // the interval of asking
	}
}

func (r *loopRun) waitEvents(n int) {
	r.t.Helper()
	r.wait(fmt.Sprintf("%d events", n), func(lines []string) bool { return count(lines, "event ") >= n })
}

// over waits until the loop has stopped by itself: without a reason, or with
// any if why is "?".
func (r *loopRun) over(why string) {
	r.t.Helper()
	r.wait("it stops", func(lines []string) bool { return count(lines, "over ") > 0 })
	lines := r.said()
	if got := strings.SplitN(lines[len(lines)-1], " ", 3)[2]; (why == "?") != (got != "") {
		r.t.Errorf("it stops with %q: %q", got, lines)
	}
}

func (r *loopRun) ordinals() (found []int) {
	for _, line := range r.said() {
		if rest, ok := strings.CutPrefix(line, "event "); ok {
			found = append(found, ordinal(strings.Fields(rest)[0]))
		}
	}
	return found
}

// dense checks that the loop gave events first to last, each once, in order.
func (r *loopRun) dense(first, last int) {
	r.t.Helper()
	got := r.ordinals()
	for i, n := range got {
		if n != first+i {
			r.t.Fatalf("event %d comes as number %d of %v", n, i+1, got)
		}
	}
	if len(got) != last-first+1 {
		r.t.Fatalf("%d events, want %d to %d", len(got), first, last)
	}
}

func contains(lines []string, line string) bool { return count(lines, line) > 0 }

// count is how many lines begin so.
func count(lines []string, beginning string) (n int) {
	for _, line := range lines {
		if strings.HasPrefix(line, beginning) {
			n++
		}
	}
	return n
}
