package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

func TestCutAndReconnect(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.start(transport, "tokens", endless)
			p.waitEvents(20)
			p.press("cut")
			p.waitConnection("cut")
			seen := p.view()
			eventually(t, "the task goes on without the page", func() bool {
				return lastOrdinal(t, host.url, seen.TaskID) >= seen.Events+20
			})
			if now := p.view(); now.Events != seen.Events {
				t.Errorf("%d events when it was cut, %d now", seen.Events, now.Events)
			}
			p.press("reconnect")
			p.waitEvents(seen.Events + 21) // what it missed, and it goes on
			n := finish(t, host.url, seen.TaskID)
			p.waitStatus("CANCELLED")
			if v := p.wholeLog(n); v.Reconnects != 1 || v.Repeats != 0 || v.Gaps != 0 {
				t.Errorf("%d reconnects, %d repeats, %d gaps", v.Reconnects, v.Repeats, v.Gaps)
			}
		})
	}
}

func TestReconnectAfterTheEnd(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.start(transport, "tokens", endless)
			p.waitEvents(5)
			p.press("cut")
			p.waitConnection("cut")
			n := finish(t, host.url, p.view().TaskID)
			p.press("reconnect")
			p.waitStatus("CANCELLED")
			p.waitConnection("ended")
			p.wholeLog(n)
		})
	}
}

// A network that breaks: the page comes back by itself and misses nothing.
func TestConnectionsThatBreak(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			g := startGate(t, host.url)
			p := openTab(t, g.url)
			p.start(transport, "tokens", endless)
			for cut := 1; cut <= 2; cut++ {
				p.waitConnection("live")
				p.waitEvents(25 * cut)
				before := p.view().Reconnects
				g.sever()
				if transport != "poll" { // Chromium repeats a GET by itself when a connection breaks
					eventually(t, "the page comes back", func() bool { return p.view().Reconnects > before })
				}
			}
			before := p.view()
			p.waitEvents(before.Events + 1) // it goes on
			n := finish(t, host.url, before.TaskID)
			p.waitStatus("CANCELLED")
			p.waitConnection("ended")
			if v := p.wholeLog(n); v.Gaps != 0 {
				t.Errorf("%d gaps", v.Gaps)
			}
		})
	}
}

// A full host: the page waits for a place, and gets the one that another page
// gives up when it is left, although the browser keeps that page for the way
// back.
func TestPageWaitsForAPlace(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"websocket", "sse"} {
		t.Run(transport, func(t *testing.T) {
			host := startHost(t, "-max-streams", "1")
			task := create(t, host.url, "stall", nil)
			follow := func() *tab {
				p := openTab(t, host.url)
				p.wait(`document.getElementById("start").disabled === false`)
				p.choose(transport)
				p.eval(fmt.Sprintf(`document.getElementById("existing").open = true; document.getElementById("follow-id").value = %q`, task), nil)
				p.run(clickOn("#follow button"))
				return p
			}
			first := follow()
			first.waitEvents(1)
			second := follow()
			second.waitConnection("retrying")
			if v := second.view(); v.Events != 0 {
				t.Errorf("refused, and yet %d events", v.Events)
			}
			first.run(chromedp.Navigate("about:blank"))
			second.waitEvents(1)
			second.press("cancel")
			second.waitStatus("CANCELLED")
			second.wholeLog(2)
		})
	}
}

func TestWayBackToThePage(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			p := openTab(t, host.url)
			p.start(transport, "tokens", endless)
			p.waitEvents(10)
			taskID := p.view().TaskID
			p.run(chromedp.Navigate(host.url + "/style.css"))
			p.eval(`void setTimeout(() => history.back())`, nil)
			p.wait(`document.getElementById("status")`) // as it was: a page loaded anew shows no task
			p.waitConnection("live")
			n := finish(t, host.url, taskID)
			p.waitStatus("CANCELLED")
			p.waitConnection("ended")
			if v := p.wholeLog(n); v.Reconnects != 1 || v.Repeats != 0 {
				t.Errorf("%d reconnects, %d repeats", v.Reconnects, v.Repeats)
			}
		})
	}
}

// A host that is replaced: the page asks on, through the proxy's 502 that ends
// an EventSource for good, until the new host answers. Its embedded store does
// not know the task; the page says so.
func TestHostThatIsReplaced(t *testing.T) {
	t.Parallel()
	for _, transport := range everyTransport {
		t.Run(transport, func(t *testing.T) {
			host := startHost(t, "-drain", "1s")
			g := startGate(t, host.url)
			p := openTab(t, g.url)
			p.start(transport, "stall", nil)
			p.waitStatus("RUNNING")
			host.drain(t)
			<-host.exited
			p.waitConnection("retrying")
			startHost(t, "-addr", host.address())
			p.waitConnection("refused")
			if v := p.view(); !strings.Contains(v.Warning, "no such task") {
				t.Errorf("the page says %q", v.Warning)
			}
		})
	}
}

// A host that drains tells its streams when to come back, and cuts them.
func TestDrainIsAnnounced(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"websocket", "sse"} {
		t.Run(transport, func(t *testing.T) {
			host := startHost(t, "-drain", "6s")
			p := openTab(t, host.url)
			p.start(transport, "stall", nil)
			p.waitStatus("RUNNING")
			host.drain(t)
			p.wait(`Array.from(document.querySelectorAll("#log li[data-kind=note]")).some((li) => li.textContent.includes("server_draining"))`)
			p.wait(`["retrying", "connecting"].includes(document.getElementById("connection").dataset.state)`)
			host.waitExit(t)
		})
	}
}
