package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// card is the question that the page shows.
type card struct {
	State, Text, Said, Payload string
	Disabled                   []bool // the buttons
	Actions                    []string
}

func (p *tab) card() card {
	p.t.Helper()
	var c card
	p.eval(`(() => {
	  const q = document.querySelector("#questions .question");
	  if (!q) return {};
	  const buttons = [...q.querySelectorAll("button")];
	  return {State: q.dataset.state, Text: q.querySelector("[data-part=text]").textContent, Said: q.querySelector("[data-part=state]").textContent,
	    Payload: q.querySelector("input").value, Disabled: buttons.map((b) => b.disabled), Actions: buttons.map((b) => b.dataset.action)};
	})()`, &c)
	return c
}

func (p *tab) waitCard(state string) card {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.querySelector("#questions .question")?.dataset.state === %q`, state))
	return p.card()
}

// answer presses the button of an action, as a mouse does.
func (p *tab) answer(action string) {
	p.t.Helper()
	button := fmt.Sprintf(`#questions .question button[data-action=%q]`, action)
	p.wait(fmt.Sprintf(`document.querySelector(%q)?.disabled === false`, button))
	p.run(clickOn(button))
}

func (p *tab) note(text string) {
	p.t.Helper()
	p.run(chromedp.SendKeys(chromedp.CSS(`#questions .question input`), text))
}

func (p *tab) address() string {
	p.t.Helper()
	var address string
	p.eval(`location.href`, &address)
	return address
}

// approved checks the whole log of an approval that was answered.
func (p *tab) approved(decision, payload string) {
	p.t.Helper()
	p.waitStatus("COMPLETED")
	p.waitConnection("ended")
	v := p.wholeLog(4)
	var types []string
	for _, r := range v.Rows {
		types = append(types, r.Type)
	}
	if got := strings.Join(types, " "); got != "TASK_STARTED TASK_SUSPENDED TASK_ACTION_ACCEPTED TASK_COMPLETED" {
		p.t.Errorf("events %s", got)
	}
	if want := fmt.Sprintf(`{"decision":%q,"payload":%s}`, decision, payload); !strings.Contains(v.Outcome, want) {
		p.t.Errorf("outcome %q, want %s", v.Outcome, want)
	}
}

var question = map[string]any{"question": "Launch the rocket?", "expiresInMs": 3600000}

func TestApprovalIsAnswered(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.start(transport, "approval", question)
			p.waitStatus("WAITING")
			c := p.waitCard("open")
			if c.Text != "Launch the rocket?" || fmt.Sprint(c.Actions) != "[approve reject]" || !strings.Contains(c.Said, "expires at") {
				t.Errorf("%+v", c)
			}
			p.note("go & good luck <3")
			p.answer("approve")
			c = p.waitCard("answered")
			if !strings.Contains(c.Said, "approve") || !strings.Contains(c.Said, "you, in this tab") || fmt.Sprint(c.Disabled) != "[true true]" {
				t.Errorf("%+v", c)
			}
			p.approved("approve", `{"note":"go & good luck <3"}`)

			// The next task begins without the last one's question.
			p.start(transport, "approval", question)
			p.waitCard("open")
			p.note(`{"why": [1, 2]}`)
			p.answer("reject")
			p.approved("reject", `{"why":[1,2]}`)
		})
	}
}

func TestApprovalAfterAReload(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.start(transport, "approval", question)
			p.waitCard("open")
			id := p.view().TaskID
			p.run(chromedp.Reload())
			if c := p.waitCard("open"); c.Text != "Launch the rocket?" {
				t.Errorf("%+v", c)
			}
			p.answer("approve")
			p.waitCard("answered")
			p.approved("approve", `{}`)
			if v := p.view(); v.TaskID != id {
				t.Errorf("another task: %s", v.TaskID)
			}
			// Once more: who answered is not known any more, what and when is.
			p.run(chromedp.Reload())
			if c := p.waitCard("answered"); !strings.Contains(c.Said, "approve") || !strings.Contains(c.Said, "another tab or client") {
				t.Errorf("%+v", c)
			}
			p.approved("approve", `{}`)
		})
	}
}

// The snapshot asks where the event that did is gone.
func TestApprovalWhoseEventIsTrimmed(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	id := create(t, host.url, "approval", question)
	eventually(t, "it waits", func() bool { return lastOrdinal(t, host.url, id) == 2 })
	// A cursor behind the event stands for a log that has lost it.
	p.eval(fmt.Sprintf(`void (async () => {
	  const { Questions } = await import("/questions.js");
	  const { snapshot } = await import("/api.js");
	  const questions = new Questions(document.getElementById("questions"), "alice", %q);
	  questions.sync((await snapshot("alice", %q)).suspensions);
	  window.questions = questions;
	})()`, id, id), nil)
	p.waitCard("open")
	p.answer("reject")
	p.waitCard("accepted")
	eventually(t, "it is over", func() bool { return lastOrdinal(t, host.url, id) == 4 })
	p.eval(`window.questions.sync([])`, nil)
	p.waitCard("closed")
}

func TestApprovalInTwoTabs(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	first, second := openTab(t, host.url), openTab(t, host.url)
	first.start("websocket", "approval", question)
	first.waitCard("open")
	second.run(chromedp.Navigate(first.address()))
	second.waitCard("open")
	second.note("from the second tab")
	second.answer("approve")
	if c := second.waitCard("answered"); !strings.Contains(c.Said, "you, in this tab") {
		t.Errorf("%+v", c)
	}
	if c := first.waitCard("answered"); !strings.Contains(c.Said, "another tab or client") || fmt.Sprint(c.Disabled) != "[true true]" {
		t.Errorf("%+v", c)
	}
	first.approved("approve", `{"note":"from the second tab"}`)
	second.approved("approve", `{"note":"from the second tab"}`)
}

// An answer that comes too late says so: this tab has not heard of the other.
func TestApprovalThatIsRejected(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	first, second := openTab(t, host.url), openTab(t, host.url)
	first.start("websocket", "approval", question)
	first.waitCard("open")
	first.press("cut")
	second.run(chromedp.Navigate(first.address()))
	second.answer("approve")
	second.approved("approve", `{}`)
	first.answer("reject")
	if c := first.waitCard("rejected"); !strings.Contains(c.Said, "Not taken: somebody else has answered") || fmt.Sprint(c.Disabled) != "[true true]" {
		t.Errorf("%+v", c)
	}
	first.press("reconnect")
	first.approved("approve", `{}`)
	if c := first.waitCard("answered"); !strings.Contains(c.Said, "another tab or client") {
		t.Errorf("%+v", c)
	}
}

func TestApprovalByDoubleClick(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	g := startGate(t, host.url)
	p := openTab(t, g.url)
	p.start("sse", "approval", question)
	p.waitCard("open")
	p.run(chromedp.DoubleClick(chromedp.CSS(`#questions button[data-action=approve]`)))
	p.approved("approve", `{}`)
	if asked := g.exchanges("/actions"); len(asked) != 1 || asked[0].status != http.StatusAccepted {
		t.Errorf("%+v", asked)
	}
}

// Without a mouse: the field and the buttons are reached with Tab, Enter in the
// field sends nothing, and the focus stays with what became of the answer.
func TestApprovalByKeyboard(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	p.start("websocket", "approval", question)
	p.waitCard("open")
	p.run(chromedp.Focus(chromedp.CSS(`#questions input`)), chromedp.KeyEvent("fine\r"))
	if c := p.card(); c.State != "open" || c.Payload != "fine" {
		t.Errorf("%+v", c)
	}
	p.run(chromedp.KeyEvent("\t"), chromedp.KeyEvent("\t"))
	p.wait(`document.activeElement?.dataset.action === "reject"`)
	p.run(chromedp.KeyEvent(" "))
	p.approved("reject", `{"note":"fine"}`)
	p.wait(`document.activeElement?.dataset.part === "state"`)
	var named bool
	p.eval(`(() => { const q = document.querySelector(".question"); return q.getAttribute("role") === "group" && document.getElementById(q.getAttribute("aria-labelledby")).textContent === "Launch the rocket?"; })()`, &named)
	if !named {
		t.Error("the question does not name its group")
	}
}

// No network while the answer is given: the page says so and sends the same
// answer until it is through.
func TestApprovalWhileOffline(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			g := startGate(t, host.url)
			p := openTab(t, g.url)
			p.start(transport, "approval", question)
			p.waitCard("open")
			id := p.view().TaskID
			g.shutDown()
			p.answer("approve")
			p.wait(`document.querySelector(".question-state").textContent.includes("no connection")`)
			if c := p.card(); c.State != "sending" || fmt.Sprint(c.Disabled) != "[true true]" || lastOrdinal(t, host.url, id) != 2 {
				t.Errorf("%+v", c)
			}
			g.open()
			p.eval(`window.dispatchEvent(new Event("online"))`, nil)
			if c := p.waitCard("answered"); !strings.Contains(c.Said, "you, in this tab") {
				t.Errorf("%+v", c)
			}
			p.approved("approve", `{}`)
		})
	}
}

// The answer is taken and the way back is cut: the repeat is found to be one.
func TestApprovalWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	g := startGate(t, host.url)
	g.loseNext("/actions")
	p := openTab(t, g.url)
	p.start("websocket", "approval", question)
	p.waitCard("open")
	p.press("cut")
	p.answer("approve")
	p.waitCard("accepted")
	if asked := g.exchanges("/actions"); len(asked) != 2 || asked[0].status != http.StatusAccepted || asked[1].status != http.StatusOK {
		t.Errorf("%+v", asked)
	}
	p.press("reconnect")
	p.approved("approve", `{}`)
}

// askQuickly asks a question that expires and reports whether the page showed
// it open before it did.
func (p *tab) askQuickly(transport string) func(expiresIn time.Duration) bool {
	return func(expiresIn time.Duration) bool {
		p.t.Helper()
		p.started(transport, "approval", map[string]any{"question": "Quick?", "expiresInMs": expiresIn.Milliseconds()})
		var c struct{ State, Said, Status string }
		eventually(p.t, "the question is shown", func() bool {
			p.eval(`(() => {
			  const q = document.querySelector("#questions .question");
			  return {Status: document.getElementById("status").dataset.status, State: q?.dataset.state ?? "", Said: q?.querySelector("[data-part=state]").textContent ?? ""};
			})()`, &c)
			return c.State != "" || c.Status == "FAILED"
		})
		if c.State != "open" || c.Status != "WAITING" {
			return false
		}
		if !strings.Contains(c.Said, "expires at") {
			p.t.Errorf("%+v", c)
		}
		return true
	}
}

func TestApprovalExpires(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			intime.Try(t, 2*time.Second, p.askQuickly(transport))
			p.waitStatus("FAILED")
			v := p.wholeLog(3)
			if c := p.card(); c.State != "closed" || !strings.Contains(c.Said, "Expired") || fmt.Sprint(c.Disabled) != "[true true]" || !strings.Contains(v.Outcome, "SUSPENSION_EXPIRED") {
				t.Errorf("%+v, %s", c, v.Outcome)
			}
		})
	}
	// A tab that hears nothing more disables the buttons by itself.
	p := openTab(t, host.url)
	intime.Try(t, 1500*time.Millisecond, func(expiresIn time.Duration) bool {
		if !p.askQuickly("websocket")(expiresIn) {
			return false
		}
		var cut bool // in one step: what expires meanwhile does so before or after
		p.eval(`(() => {
		  document.getElementById("cut").click();
		  return document.getElementById("connection").dataset.state === "cut" && document.querySelector("#questions .question").dataset.state === "open";
		})()`, &cut)
		return cut
	})
	if c := p.waitCard("expired"); fmt.Sprint(c.Disabled) != "[true true]" {
		t.Errorf("%+v", c)
	}
}

// What the server refuses is said, and can be put right.
func TestApprovalThatIsRefused(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	p.start("websocket", "approval", map[string]any{"question": "Wait for ever?", "expiresInMs": ""})
	if c := p.waitCard("open"); !strings.Contains(c.Said, "never expires") {
		t.Errorf("%+v", c)
	}
	// More than an answer may hold; the field itself would not take it.
	p.eval(`(() => { const i = document.querySelector("#questions input"); i.removeAttribute("maxlength"); i.value = "x".repeat(300000); })()`, nil)
	p.answer("approve")
	if c := p.waitCard("refused"); !strings.Contains(c.Said, "payload") || fmt.Sprint(c.Disabled) != "[false false]" {
		t.Errorf("%s %v", c.Said, c.Disabled)
	}
	p.eval(`document.querySelector("#questions input").value = ""`, nil)
	p.answer("reject")
	p.approved("reject", `{}`)
}

func TestApprovalCanBeCancelled(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	p.start("sse", "approval", map[string]any{"question": "Wait for ever?", "expiresInMs": ""})
	p.waitCard("open")
	p.press("cancel")
	p.waitStatus("CANCELLED")
	p.wholeLog(3)
	if c := p.card(); c.State != "closed" || !strings.Contains(c.Said, "before anybody answered") {
		t.Errorf("%+v", c)
	}
}

// Many tasks of one page, one after the other, and none's answers reach another.
func TestApprovalOfATaskThatIsLeft(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	g := startGate(t, host.url)
	p := openTab(t, g.url)
	p.start("websocket", "approval", question)
	p.waitCard("open")
	left := p.view().TaskID
	g.shutDown()
	p.answer("approve")
	p.wait(`document.querySelector(".question-state").textContent.includes("no connection")`)
	g.open()
	p.eval(fmt.Sprintf(`location.hash = "#" + new URLSearchParams({task: %q, subject: "alice", transport: "sse"})`, create(t, host.url, "greet", nil)), nil)
	p.waitStatus("COMPLETED")
	p.wholeLog(5)
	still(t, "the other one is not answered", 1500*time.Millisecond, func() bool { return lastOrdinal(t, host.url, left) == 2 })
	if v := p.view(); v.Question != "" {
		t.Errorf("question %q", v.Question)
	}
}
