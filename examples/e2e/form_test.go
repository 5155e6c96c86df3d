package e2e

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// How far a stream of tokens is, a reloaded page and a second tab know, too.
func TestProgressAfterAReload(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	p := openTab(t, host.url)
	p.start("sse", "tokens", endless)
	p.waitEvents(20)
	p.run(chromedp.Reload())
	p.wait(`document.getElementById("progress").value > 0`)
	if v := p.view(); !strings.Contains(v.Stage, "of 1000000") || v.Progress >= 100 {
		t.Errorf("after a reload: %q, %v", v.Stage, v.Progress)
	}
	var address string
	p.eval(`location.href`, &address)
	second := openTab(t, address)
	second.wait(`document.getElementById("stage").textContent.includes("of 1000000")`)

	p.press("cancel")
	p.waitStatus("CANCELLED")
	second.waitStatus("CANCELLED")
}

// A press on Start is never without an answer.
func TestStartWithoutAServer(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	g := startGate(t, host.url)
	p := openTab(t, g.url)
	g.shutDown()
	// It is noted as it comes: a page says so for a moment only.
	p.eval(`window.said = []; new MutationObserver(() => said.push(document.getElementById("form-error").textContent)).observe(
		document.getElementById("form-error"), {childList: true})`, nil)
	p.start("sse", "greet", map[string]any{"name": "Grace"})
	p.wait(`said.some((text) => text.includes("tried again"))`)
	p.wait(`document.getElementById("form-error").textContent === "Not started: no connection to the server"`)
	g.open()
	p.press("start")
	p.waitStatus("COMPLETED")
	if v := p.wholeLog(5); v.Stage != "100 %" {
		t.Errorf("over, and it says %q", v.Stage)
	}
	p.wait(`document.getElementById("form-error").hidden`)
}

// On a phone the task stands below the form: Start brings it up.
func TestStartOnAPhone(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	p := openTab(t, host.url)
	p.run(chromedp.EmulateViewport(375, 700, chromedp.EmulateMobile))
	p.start("sse", "approval", question)
	p.waitCard("open")
	p.wait(`(() => { const { top, bottom } = document.querySelector(".question button").getBoundingClientRect();
		return top >= 0 && bottom <= innerHeight; })()`)
	p.press("cancel")
	p.waitStatus("CANCELLED")
	var wide float64
	p.eval(`document.documentElement.scrollWidth`, &wide)
	if wide > 375 {
		t.Errorf("the page is %v wide", wide)
	}
}
