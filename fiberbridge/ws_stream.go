package fiberbridge

import (
	"container/list"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// wsStream is one WebSocket: any number of tasks, each from a cursor on.
//
// Frames are read where the socket's loop brings them (Readable), answered in
// their order by the command pool (ws_subscribe.go), and it ends with a close
// handshake or a cut (ws_close.go).
//
// There are very many, nearly all of which only listen: what is needed while a
// client speaks is set apart.
type wsStream struct {
	stream
	// reading is used by Readable only; nil between two messages.
	reading *wsReading
	// talk bounds the rate of control frames and fragments. Used by Readable only.
	talk bucket
	// heard is when the peer last gave a sign of life (an instant).
	heard atomic.Int64

	// Everything below is guarded by stream.mu. Outlet's methods are called
	// with it held, so that what is decided and what is written agree.

	// frames bounds the rate of the client's frames.
	frames bucket

	// busy says that the stream is in the command pool or waits for room.
	busy, waiting bool
	// subscribed says that a subscription was confirmed.
	subscribed bool
	// several says that there were two tasks, or an unsubscribe: from then on
	// the end of one is told by a frame.
	several bool
	closing wsClosing
	// parting says that the only subscription is over, and that the socket stays
	// open until idleBy for a further one.
	parting bool

	queue *wsQueue // nil when there is nothing to remember
	first string   // the task that was followed first
	tasks []string // what is followed
	ended *wsEnd   // what came to its end and has not been told, the first one first

	// idleBy is until when something has to be followed; zero while something is.
	idleBy instant
	pingAt instant // when a ping was sent that nothing answered; or zero

	idle *list.Element // streams.mu guards it; nil once the client has spoken
}

// wsReading is what has been read of a message.
type wsReading struct {
	wsproto.Reader
	// pong is what Readable answers pings with.
	pong []byte
}

// wsEnd is a subscription that came to its end, in a list of such.
type wsEnd struct {
	task, reason string
	next         *wsEnd
}

// with returns the list with one more at its end.
func (e *wsEnd) with(task, reason string) *wsEnd {
	if e == nil {
		return &wsEnd{task: task, reason: reason}
	}
	e.next = e.next.with(task, reason)
	return e
}

// without returns the list without a task.
func (e *wsEnd) without(task string) *wsEnd {
	if e == nil {
		return nil
	}
	rest := e.next.without(task)
	if e.task == task {
		return rest
	}
	e.next = rest
	return e
}

var _ subscriber = (*wsStream)(nil)

func newWSStream(s *streams, auth *engine.AuthContext) *wsStream {
	w := &wsStream{}
	w.init(s, w, auth)
	now := s.deadlines.now()
	w.heard.Store(int64(now))
	w.idleBy = now + instant(s.cfg.WebSocket.SubscribeTimeout)
	return w
}

func (w *wsStream) transport() string { return transportWebSocket }

// Readable is socket.Handler's.
func (w *wsStream) Readable(p []byte) {
	w.heard.Store(int64(w.s.deadlines.now()))
	r := w.reading
	if r == nil {
		r = &wsReading{Reader: wsproto.Reader{MaxMessage: w.s.cfg.WebSocket.MessageBytes}}
		w.reading = r
	}
	if r.Feed(p, w); r.Idle() {
		w.reading = nil // clients say little, and there are very many of them
	}
	if r.pong != nil {
		// Of several pings the last may be answered alone (RFC 6455, 5.5.3). A
		// peer that takes nothing gets no answers to keep.
		if !w.flags.has(parked) {
			w.outlet.SendUnseen(r.pong)
		}
		r.pong = nil
	}
}

// Text is wsproto.Receiver's.
func (w *wsStream) Text(p []byte) {
	cmd, err := parseCommand(p)
	if err != nil {
		w.push(wsItem{code: wsproto.ClosePolicy, why: err.Error()})
		w.reading.Stop()
		return
	}
	w.push(wsItem{cmd: cmd, size: len(p)})
}

// Ping is wsproto.Receiver's.
func (w *wsStream) Ping(p []byte) {
	if w.idleTalk() {
		w.reading.pong = wsproto.AppendPong(nil, p)
	}
}

// Violation is wsproto.Receiver's.
func (w *wsStream) Violation(v *wsproto.CloseError) {
	w.push(wsItem{code: v.Code, why: v.Reason})
}

// Pong is wsproto.Receiver's; Readable has noted the sign of life.
func (w *wsStream) Pong([]byte) { w.idleTalk() }

// Fragment is wsproto.Receiver's.
func (w *wsStream) Fragment() { w.idleTalk() }

// idleTalk counts a control frame or a fragment of a message, and closes the socket if
// there are too many. allowed is false then.
//
// Frames that still wait are not answered: if the client takes no answers, the socket
// would stay open and be read until it is cut.
func (w *wsStream) idleTalk() (allowed bool) {
	cfg := &w.s.cfg.WebSocket
	if w.talk.take(w.s.deadlines.now(), cfg.FramesPerSecond, idleTalkBurst+cfg.MessageBytes) {
		return true
	}
	w.reading.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hasty = true
	w.closeLocked(wsproto.ClosePolicy, "too many control frames or fragments", hastyTime)
	return false
}

// idleTalkBurst is how many control frames and fragments may come at once, in addition
// to one message in fragments of one byte.
const idleTalkBurst = 256

// Writable is socket.Handler's. Room in the buffer means that the peer has
// taken something: a sign of life.
func (w *wsStream) Writable() {
	w.heard.Store(int64(w.s.deadlines.now()))
	w.outlet.Writable()
}

// resumed is called when the socket takes bytes again.
func (w *wsStream) resumed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.goOn()
}

// Finished is fanout.Sink's.
func (w *wsStream) Finished(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(key, endedTerminal)
}

// Failed is fanout.Sink's. It cuts: the client comes back, and is told what is
// wrong when it subscribes.
func (w *wsStream) Failed(key string, err error) {
	w.s.log.Debug("websocket: log cannot be read", slog.String("taskId", key), slog.Any("error", err))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked(nil, farewellTime)
}

// settle tells of what has come to its end. As long as there was one task, a
// client whose further frames wait is not done yet: what they ask for decides
// how it is told. mu is held.
func (w *wsStream) settle() {
	switch {
	case w.ending:
	case w.several:
		for e := w.ended; e != nil; e = e.next {
			w.outlet.Send(appendEnded(nil, e.task, e.reason))
		}
		w.ended = nil
		if !w.busy && len(w.tasks) == 0 && (w.idleBy == 0 || w.parting) && w.subscribed {
			w.idleFor(instant(w.s.cfg.WebSocket.IdleTimeout))
			w.parting = false
		}
	case !w.busy && w.ended != nil && w.ended.reason == endedRevoked:
		w.ended = nil
		w.closeLocked(wsproto.CloseForbidden, "access was revoked", farewellTime)
	case !w.busy && w.ended != nil && !w.parting:
		// The client may be about to follow another task: a subscribe that it sent
		// right after the first one may still be on its way.
		w.idleFor(w.s.partTime)
		w.parting = true
	}
}

// idleFor closes the socket after d if it follows nothing by then. mu is held.
func (w *wsStream) idleFor(d instant) {
	w.idleBy = w.s.deadlines.now() + d
	w.s.deadlines.set(w, w.idleBy)
}

// lookSoon is how soon a time that has come is looked at again, while a frame
// is worked on that may change what it means.
const lookSoon = 50 * time.Millisecond

// check looks after the stream's times.
func (w *wsStream) check(now instant, wall time.Time) instant {
	next := w.checkLife(now, wall, w.expired)
	w.mu.Lock()
	at, silent := w.checkLocked(now)
	w.mu.Unlock()
	if silent {
		w.cut()
		return 0
	}
	return sooner(next, at)
}

// checkLocked returns when to look again; silent says that the peer is gone.
func (w *wsStream) checkLocked(now instant) (next instant, silent bool) {
	cfg := &w.s.cfg.WebSocket
	if w.over || w.ending {
		return 0, false // checkLife sees to the end
	}
	if w.idleBy > 0 {
		// A frame that still waits for a slow store did come in time.
		switch {
		case now < w.idleBy:
			next = w.idleBy
		case w.busy:
			next = now + instant(lookSoon)
		case w.parting:
			w.part()
			return w.until, false
		default:
			code, why := wsproto.ClosePolicy, "no subscribe frame came in time"
			if w.subscribed {
				code, why = wsproto.CloseNormal, "nothing is followed"
			}
			w.closeLocked(code, why, farewellTime)
			return w.until, false
		}
	}
	heard := instant(w.heard.Load())
	deaf := w.flags.has(parked) || w.busy
	if w.pingAt > 0 && heard < w.pingAt && !deaf {
		at := w.pingAt + instant(cfg.PongTimeout)
		return sooner(next, at), now >= at
	}
	// While the peer takes nothing, a ping would wait behind what it has not
	// taken; WriteTimeout rules then. While its frames wait, its pong may be behind
	// some that we have not read.
	w.pingAt = 0
	at := heard + instant(cfg.Heartbeat)
	if now >= at {
		at = now + instant(cfg.PongTimeout)
		if !deaf {
			w.pingAt = now
			w.outlet.SendUnseen(wsproto.AppendPing(nil, nil))
		}
	}
	return sooner(next, at), false
}
