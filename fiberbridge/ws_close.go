package fiberbridge

import (
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// wsClosing is how far a close handshake is (RFC 6455, section 7).
type wsClosing struct {
	// sent: our close frame is given to the outlet; got: the peer's was read.
	sent, got bool
	// written: the outlet is over, ours has left.
	written bool
}

// closeWith begins the close handshake.
func (w *wsStream) closeWith(code int, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closeLocked(code, reason, farewellTime)
}

func (w *wsStream) closeLocked(code int, reason string, limit time.Duration) {
	if w.beginEndLocked(limit) {
		w.closing.sent = true
		w.dropQueue()
		w.outlet.End(wsproto.AppendClose(nil, code, reason))
	}
}

// part closes a socket whose only subscription has ended. mu is held.
func (w *wsStream) part() {
	w.ended = nil
	// A slow reader still has the rest to take.
	w.closeLocked(wsproto.CloseNormal, "", 10*w.s.cfg.Streams.WriteTimeout)
}

// endLocked ends without a close frame, at the latest after limit.
func (w *wsStream) endLocked(farewell []byte, limit time.Duration) {
	if w.beginEndLocked(limit) {
		w.dropQueue()
		w.outlet.End(farewell)
	}
}

// endFor is part of subscriber. Old clients take a clean close for the end of the task,
// so the default is a cut.
func (w *wsStream) endFor(reason closingReason, retryAfter time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending || w.over {
		return
	}
	if w.parting { // the client has nothing to reconnect for
		w.part()
		return
	}
	key := w.first
	if n := len(w.tasks); n > 0 {
		key = w.tasks[n-1]
	}
	farewell := wsFraming{}.appendClosing(nil, key, reason, retryAfter)
	if w.s.cfg.WebSocket.CloseFrames {
		code := wsproto.CloseTryLater
		if reason == closingDraining {
			code = wsproto.CloseRestart
		}
		w.closing.sent = true
		farewell = wsproto.AppendClose(farewell, code, string(reason))
	}
	w.endLocked(farewell, farewellTime)
}

// expired ends the socket of a credential that has.
func (w *wsStream) expired() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.parting {
		w.part()
		return
	}
	w.closeLocked(wsproto.CloseUnauthorized, "the credentials have expired", farewellTime)
}

// Close is wsproto.Receiver's: the peer's close frame. It is answered with its
// own code, unless a frame before it was invalid.
func (w *wsStream) Close(code int, _ string) {
	w.mu.Lock()
	w.closing.got = true
	done := w.closing.written
	if !done {
		reason := ""
		if code == 1005 { // there was none in the frame, and none may be sent
			code = wsproto.CloseNormal
		}
		if last := w.queue.last(); last.code != 0 {
			code, reason = last.code, last.why
		}
		w.closeLocked(code, reason, farewellTime)
	}
	w.mu.Unlock()
	if done {
		w.letGo(true)
	}
}

// Ended is fanout.Sink's.
func (w *wsStream) Ended(reason fanout.EndReason) {
	if reason == fanout.EndAsked {
		w.mu.Lock()
		wait := w.closing.sent && !w.closing.got && !w.hasty
		w.closing.written = wait
		if wait {
			w.until = w.s.deadlines.now() + instant(closeAnswerTime)
			w.s.deadlines.set(w, w.until)
		}
		w.mu.Unlock()
		if wait {
			return
		}
	}
	w.letGo(reason == fanout.EndAsked)
}

// Hangup is socket.Handler's.
func (w *wsStream) Hangup(error) { w.cut() }
