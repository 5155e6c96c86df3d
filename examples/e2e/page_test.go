package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

var everyTransport = []string{"websocket", "sse", "poll"}

func TestTaskTypesOnEachTransport(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)

			p.start(transport, "greet", map[string]any{"name": "Grace"})
			p.waitStatus("COMPLETED")
			p.waitConnection("ended")
			v := p.wholeLog(5)
			for i, want := range []string{"TASK_STARTED", "TASK_PROGRESS", "TASK_PROGRESS", "TASK_PROGRESS", "TASK_COMPLETED"} {
				if v.Rows[i].Type != want {
					t.Errorf("event %d is a %s", i+1, v.Rows[i].Type)
				}
			}
			if !strings.Contains(v.Outcome, "Grace") || v.Progress != 100 {
				t.Errorf("outcome %q, progress %v", v.Outcome, v.Progress)
			}

			p.start(transport, "tokens", map[string]any{"count": 300, "intervalMs": 2, "size": 10})
			p.waitStatus("COMPLETED")
			v = p.wholeLog(302)
			if len(v.Text) != 3000 || !strings.Contains(v.Text, "A task is an ordered log of events, and everything") {
				t.Errorf("%d characters of text: %.200q", len(v.Text), v.Text)
			}
			if v.Reconnects != 0 || v.Repeats != 0 || v.Gaps != 0 {
				t.Errorf("counters: %+v", v)
			}

			p.start(transport, "fail", map[string]any{"code": "DISK_FULL", "message": "no room", "afterSteps": 2, "retryable": true})
			p.waitStatus("FAILED")
			v = p.wholeLog(4)
			if !strings.Contains(v.Outcome, "DISK_FULL") || !strings.Contains(v.Outcome, "no room") || !strings.Contains(v.Outcome, "again") {
				t.Errorf("outcome %q", v.Outcome)
			}
			if v.Progress == 0 || v.Progress == 100 {
				t.Errorf("progress %v", v.Progress)
			}
		})
	}
}

func TestProgressArrivesWhileTheTaskRuns(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.start(transport, "tokens", endless)
			p.wait(`document.getElementById("progress").value > 0`)
			v := p.view()
			if v.Status != "RUNNING" || v.Progress >= 100 || v.Connection != "live" || !strings.Contains(v.Stage, "of 1000000") {
				t.Errorf("in the middle: %+v", v)
			}
			n := finish(t, host.url, v.TaskID)
			p.waitStatus("CANCELLED")
			p.wholeLog(n)
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.start(transport, "stall", nil)
			p.waitStatus("RUNNING")
			p.press("cancel")
			p.waitStatus("CANCELLED")
			p.waitConnection("ended")
			if v := p.wholeLog(2); !strings.Contains(v.Outcome, "cancelled on the demo page") {
				t.Errorf("outcome %q", v.Outcome)
			}
		})
	}
}

func TestRefusalsAreShown(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	if text := ""; true {
		p.eval(`document.getElementById("auth-note").textContent`, &text)
		if !strings.Contains(text, "Demo authentication") {
			t.Errorf("the page does not say that its authentication is a demo: %q", text)
		}
	}

	// The browser's own checks are off, so that the server has to refuse.
	p.eval(`document.getElementById("new").noValidate = document.getElementById("follow").noValidate = true`, nil)
	p.start("sse", "tokens", map[string]any{"count": -1})
	p.wait(`!document.getElementById("form-error").hidden`)
	var message string
	p.eval(`document.getElementById("form-error").textContent`, &message)
	if !strings.Contains(message, "count") {
		t.Errorf("the form says %q", message)
	}

	// A foreign task looks like none.
	foreign := create(t, host.url, "stall", nil)
	for _, id := range []string{foreign, strings.Repeat("a", 26)} {
		p.eval(fmt.Sprintf(`document.getElementById("existing").open = true;
			document.getElementById("subject").value = "mallory";
			document.getElementById("follow-error").hidden = true;
			document.getElementById("follow-id").value = %q`, id), nil)
		p.run(clickOn("#follow button"))
		p.wait(`!document.getElementById("follow-error").hidden`)
		p.eval(`document.getElementById("follow-error").textContent`, &message)
		if !strings.Contains(strings.ToLower(message), "not f") || strings.Contains(message, "alice") {
			t.Errorf("the form says %q", message)
		}
	}
}

func TestCredentialsThatExpireEndTheStream(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			intime.Try(t, 3*time.Second, func(life time.Duration) bool {
				p.eval(fmt.Sprintf(`document.getElementById("subject").value = "alice;exp=%d"`, time.Now().Add(life).Unix()), nil)
				// Events all the time, so that polling comes back after the expiry.
				if !p.started(transport, "tokens", endless) {
					return false
				}
				p.wait(`document.getElementById("connection").dataset.state === "refused" || +document.getElementById("count-events").textContent >= 2`)
				return p.view().Events >= 2
			})
			p.waitConnection("refused")
			if v := p.view(); v.Status != "RUNNING" || !strings.Contains(v.Warning, "refused") {
				t.Errorf("view %+v", v)
			}
		})
	}
}

func TestTrimmedLogIsSaidToBe(t *testing.T) {
	t.Parallel()
	host := startHost(t, "-max-stream-length", "10")
	task := create(t, host.url, "tokens", map[string]any{"count": 60})
	eventually(t, "the task ends", func() bool { return lastOrdinal(t, host.url, task) == 62 })
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.choose(transport)
			p.eval(fmt.Sprintf(`document.getElementById("existing").open = true; document.getElementById("follow-id").value = %q`, task), nil)
			p.run(clickOn("#follow button"))
			p.waitConnection("ended")
			p.waitStatus("COMPLETED")
			v := p.view()
			if v.Gaps != 1 || v.Rows[0].Type != "gap" || !strings.Contains(v.Rows[0].What, "trimmed") {
				t.Errorf("%d gaps; the first row: %+v", v.Gaps, v.Rows[0])
			}
			ids := v.eventIDs()
			if v.Warning != "" || v.Events != len(ids) || len(ids) < 10 || ordinal(ids[len(ids)-1]) != 62 {
				t.Errorf("warning %q, %d events, ids %v", v.Warning, v.Events, ids)
			}
		})
	}
}

func TestManyEventsAreAllCounted(t *testing.T) {
	t.Parallel()
	const count = 6000 // more than the page keeps rows for
	host := startHost(t, "-max-stream-length", "10000")
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.start(transport, "tokens", map[string]any{"count": count, "intervalMs": 0, "size": 20})
			p.waitStatus("COMPLETED")
			p.wait(fmt.Sprintf(`+document.getElementById("count-events").textContent === %d`, count+2))
			v := p.view()
			if v.Warning != "" || v.Repeats != 0 || v.Gaps != 0 || len(v.Text) != 20*count {
				t.Errorf("warning %q, %d repeats, %d gaps, %d characters", v.Warning, v.Repeats, v.Gaps, len(v.Text))
			}
			if ids := v.eventIDs(); len(ids) != 5000 || ordinal(ids[0]) != count+2-4999 {
				t.Errorf("%d rows from %s", len(ids), ids[0])
			}
		})
	}
}

func TestPageLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	response, err := client.Get(host.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("X-Request-Id") == "" ||
		!strings.Contains(response.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%s %v", response.Status, response.Header)
	}
	p := openTab(t, host.url)
	p.start("websocket", "greet", nil)
	p.waitStatus("COMPLETED")
	var foreign []string
	p.eval(`performance.getEntriesByType("resource").map((e) => e.name).filter((name) => !name.startsWith(location.origin + "/"))`, &foreign)
	if len(foreign) > 0 {
		t.Errorf("loaded from elsewhere: %v", foreign)
	}
}
