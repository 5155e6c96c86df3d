package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one Chromium for all tests; each test has a tab of its own.
var browser struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path := tool(t, "chromium", "chromium")
	browser.once.Do(func() {
		// chromedp gives it a fresh user-data-dir and removes that.
		allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(),
			chromedp.ExecPath(path),
			chromedp.NoFirstRun,
			chromedp.NoDefaultBrowserCheck,
			chromedp.Headless,
			chromedp.NoSandbox,
			chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true),
			chromedp.Flag("disable-background-networking", true),
			chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-sync", true),
			chromedp.Flag("disable-dev-shm-usage", true),
			// Several tabs at once, and none is in the background.
			chromedp.Flag("disable-background-timer-throttling", true),
			chromedp.Flag("disable-backgrounding-occluded-windows", true),
			chromedp.Flag("disable-renderer-backgrounding", true),
			chromedp.WindowSize(1280, 1000),
			chromedp.WSURLReadTimeout(patience),
		)
		ctx, cancel := chromedp.NewContext(allocator)
		browser.ctx = ctx
		browser.stop = func() {
			_ = chromedp.Cancel(ctx)
			cancel()
			cancelAllocator()
		}
		browser.err = chromedp.Do(ctx) // starts it
	})
	if browser.err != nil {
		t.Fatalf("chromium does not start: %v", browser.err)
	}
	return browser.ctx
}

func stopBrowser() {
	if browser.stop != nil {
		browser.stop()
	}
}

// tab is a page open in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// openTab opens an address. An exception that nobody catches fails the test.
func openTab(t *testing.T, address string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(startBrowser(t))
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the tab is closed
		cancel()
	})
	var mu sync.Mutex
	var exceptions []string
	err := chromedp.Listen(ctx, func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			mu.Lock()
			defer mu.Unlock()
			what := thrown.ExceptionDetails.Text
			if thrown.ExceptionDetails.Exception != nil {
				what += " " + thrown.ExceptionDetails.Exception.Description
			}
			exceptions = append(exceptions, what)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if len(exceptions) > 0 {
			t.Errorf("exceptions in the page: %s", strings.Join(exceptions, "; "))
		}
	})
	p := &tab{t: t, ctx: ctx}
	p.run(chromedp.Navigate(address))
	return p
}

func (p *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// eval runs a JavaScript expression, waits for a promise, and decodes what it
// gives; into may be nil.
func (p *tab) eval(expression string, into any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if into == nil {
		if err := chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](expression, chromedp.EvalAwaitPromise)); err != nil {
			p.t.Fatalf("%s: %v", expression, err)
		}
		return
	}
	value, err := chromedp.Run(ctx, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise))
	if err == nil {
		err = json.Unmarshal(value, into)
	}
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
}

// wait waits until a JavaScript expression is true.
func (p *tab) wait(expression string) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var holds bool
		p.eval("Boolean("+expression+")", &holds)
		if holds {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %s: %s\n%+v", patience, expression, p.view())
		}
		time.Sleep(30 * time.Millisecond) // the interval of asking
	}
}

// ---- the demo page ----

// view is what the demo page shows of a task.
type view struct {
	Status, Connection, Warning, Outcome, Text, Question, Stage, TaskID string
	Progress                                                            float64
	Events, Reconnects, Repeats, Gaps                                   int
	Rows                                                                []row
}

// row is a line of the page's log.
type row struct{ Type, ID, What string }

func (v view) eventIDs() []string {
	var ids []string
	for _, r := range v.Rows {
		if r.ID != "" {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

const readView = `(() => {
  const text = (id) => document.getElementById(id)?.hidden ? "" : document.getElementById(id)?.textContent ?? "";
  return {
    Status: document.getElementById("status")?.dataset.status ?? "", Connection: document.getElementById("connection")?.dataset.state ?? "",
    Warning: text("warning"), Outcome: text("outcome"), Text: text("text"), Question: text("questions"), Stage: text("stage"), TaskID: text("task-id"),
    Progress: document.getElementById("progress")?.value ?? 0,
    Events: +text("count-events"), Reconnects: +text("count-reconnects"), Repeats: +text("count-repeats"), Gaps: +text("count-gaps"),
    Rows: Array.from(document.querySelectorAll("#log li"), (li) => ({Type: li.children[0].textContent, ID: li.children[1].textContent, What: li.children[2].textContent})),
  };
})()`

func (p *tab) view() view {
	p.t.Helper()
	var v view
	p.eval(readView, &v)
	return v
}

// start fills in the form and presses Start.
func (p *tab) start(transport, taskType string, input map[string]any) {
	p.t.Helper()
	if input == nil {
		input = map[string]any{}
	}
	fields, err := json.Marshal(input)
	if err != nil {
		p.t.Fatal(err)
	}
	p.wait(`document.getElementById("start").disabled === false`) // the module has run
	p.eval(fmt.Sprintf(`(() => {
	  const set = (e, value) => { e.type === "checkbox" ? e.checked = value : e.value = value; e.dispatchEvent(new Event("change", {bubbles: true})); };
	  set(document.getElementById("type"), %q);
	  for (const [name, value] of Object.entries(%s)) set(document.querySelector('#new fieldset[data-type=%s] [name="' + name + '"]'), value);
	})()`, taskType, fields, taskType), nil)
	p.choose(transport)
	p.press("start")
}

// started is start, and waits until the page shows the new task; false says
// that the server refused to create it.
func (p *tab) started(transport, taskType string, input map[string]any) bool {
	p.t.Helper()
	before := p.view().TaskID
	p.start(transport, taskType, input)
	p.wait(fmt.Sprintf(`document.getElementById("task-id").textContent !== %q || !document.getElementById("form-error").hidden`, before))
	return p.view().TaskID != before
}

func (p *tab) choose(transport string) {
	p.t.Helper()
	p.run(clickOn(fmt.Sprintf(`#transports label:has([value=%s])`, transport)))
}

// press clicks on a button as a mouse does, so it must be visible.
func (p *tab) press(id string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.getElementById(%q).disabled === false`, id))
	p.run(clickOn("#" + id))
}

func (p *tab) waitStatus(status string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.getElementById("status").dataset.status === %q`, status))
	p.wait(`document.getElementById("log").querySelectorAll("li").length > 0`)
}

func (p *tab) waitConnection(state string) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`document.getElementById("connection").dataset.state === %q`, state))
}

func (p *tab) waitEvents(least int) {
	p.t.Helper()
	p.wait(fmt.Sprintf(`+document.getElementById("count-events").textContent >= %d`, least))
}

// wholeLog checks that the page shows events 1 to n, each once, in order.
func (p *tab) wholeLog(n int) view {
	p.t.Helper()
	p.wait(fmt.Sprintf(`+document.getElementById("count-events").textContent === %d`, n))
	v := p.view()
	ids := v.eventIDs()
	if len(ids) != n {
		p.t.Fatalf("%d rows, want %d", len(ids), n)
	}
	for i, id := range ids {
		if ordinal(id) != i+1 {
			p.t.Fatalf("row %d is event %s", i+1, id)
		}
	}
	if v.Warning != "" {
		p.t.Errorf("the page warns: %s", v.Warning)
	}
	return v
}

// clickOn clicks on the element that a CSS selector finds.
func clickOn(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector))
}
