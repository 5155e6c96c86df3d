package e2e

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
)

const atEnd = `(() => { const l = document.getElementById("log"); return l.scrollHeight - l.scrollTop - l.clientHeight < 2; })()`

// atRest is an expression that holds when an element is where it was when it was
// last evaluated.
func atRest(selector string) string {
	return fmt.Sprintf(`(() => {
	  const top = document.querySelector(%q).getBoundingClientRect().top;
	  const held = window.heldTop === top;
	  window.heldTop = top;
	  return held;
	})()`, selector)
}

// On a phone the list of events follows, a failure looks like one, and what was
// answered asks no more.
func TestPageOnAPhone(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	p.run(chromedp.EmulateViewport(390, 844))
	p.start("sse", "tokens", map[string]any{"count": 200, "intervalMs": 5, "size": 200})
	p.waitStatus("COMPLETED")
	p.waitConnection("ended")
	p.wait(atEnd)
	outcome := `getComputedStyle(document.getElementById("outcome")).backgroundColor`
	var good, bad string
	p.eval(outcome, &good)
	p.start("sse", "fail", nil)
	p.waitStatus("FAILED")
	p.eval(outcome, &bad)
	if good == bad {
		t.Errorf("a failure has the colour of a result: %s", bad)
	}

	p.start("sse", "approval", question)
	p.wait(`document.querySelector("#questions .question button[data-action=approve]")`)
	// A click that meets the page while its layout moves hits nothing: the list
	// scrolls, and the question pushes it down.
	p.eval(`document.querySelector("#questions .question button[data-action=approve]").scrollIntoView({block: "center"})`, nil)
	p.wait(atRest(`#questions .question button[data-action=approve]`))
	p.answer("approve")
	p.waitCard("answered")
	const gone = `document.querySelector("#questions button").offsetParent === null && document.querySelector("#questions input").offsetParent === null`
	p.wait(gone)
	other := openTab(t, p.address())
	other.waitCard("answered")
	other.wait(gone)
}

// The page's file field brings attachments along.
func TestPageUploads(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	p.eval(`(() => {
	  const chosen = new DataTransfer();
	  chosen.items.add(new File(["hello"], "müll (1).txt", {type: "text/plain"}));
	  document.getElementById("files").files = chosen.files;
	  const plain = window.fetch;
	  window.fetch = (url, init) => { if (init?.body instanceof FormData) window.sent = init.body.getAll("attachments").map((f) => f.name); return plain(url, init); };
	})()`, nil)
	p.start("sse", "greet", nil)
	p.waitStatus("COMPLETED")
	var sent []string
	p.eval(`window.sent`, &sent)
	if len(sent) != 1 || sent[0] != "müll (1).txt" {
		t.Errorf("sent %q", sent)
	}
}
