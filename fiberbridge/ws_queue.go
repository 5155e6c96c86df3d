package fiberbridge

import (
	"context"
	"errors"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// A client may send all its subscriptions at once, thousands of them. They are
// answered one after the other, in their order. While as many wait as are to be
// held, its socket is not read: TCP holds it back, and reading goes on when most
// of them are answered. The end of the connection is still noticed, pings are
// answered when it is their turn, and nobody takes a peer that is not read for
// a silent one.

const (
	// maxQueued and maxQueuedBytes are how many frames may wait, or how much
	// they may be, before the socket is not read; what was read with the last of
	// them, 16 KiB at most, comes on top.
	maxQueued      = 64
	maxQueuedBytes = 16 << 10
	// fewQueued is when it is read again.
	fewQueued = 16
	// maxRefused is how many frames over the rate are refused one by one, until
	// the client has paused. Who goes on does not listen.
	maxRefused = 4096
	// maxAhead is how much may be answered before the outlet has taken it: more
	// than an outlet holds for a full socket would end it as a slow one.
	maxAhead = 16 << 10
	// hungTime tells a store that hangs from one that says no.
	hungTime = time.Second
)

var errFrameRate = engine.NewError(engine.CodeRateLimited, "too many frames at once")

// wsQueue are frames to be worked on.
type wsQueue struct {
	items []wsItem
	bytes int
	// ahead bounds the bytes of answers that the outlet has not taken yet, as far
	// as is known; asked says that it will tell.
	ahead int
	asked bool
	// refused counts frames over the rate since a pause long enough for a full
	// burst.
	refused int
	// hung is what came of a frame that waited for a store in vain, for the next
	// so many.
	hung    error
	hungFor int
}

// wsItem is one frame of the client to be worked on: a command, or why it is
// none.
type wsItem struct {
	cmd  wsCommand
	over bool // the rate
	code int
	why  string
	size int // in bytes, of the frame
}

// len is how many wait. There may be no queue at all.
func (q *wsQueue) len() int {
	if q == nil {
		return 0
	}
	return len(q.items)
}

// last is the frame that came last, if it waits.
func (q *wsQueue) last() (item wsItem) {
	if n := q.len(); n > 0 {
		item = q.items[n-1]
	}
	return item
}

// push queues a frame.
func (w *wsStream) push(item wsItem) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending || w.over || w.queue.last().code != 0 {
		return
	}
	q := w.queue
	if q == nil {
		q = new(wsQueue)
		w.queue = q
	}
	if item.code == 0 {
		w.judgeRate(q, &item)
	}
	q.items = append(q.items, item)
	q.bytes += item.size
	if !w.flags.has(held) && (len(q.items) >= maxQueued || q.bytes >= maxQueuedBytes) {
		w.flags.set(held)
		w.sock.Pause()
	}
	if !w.busy {
		w.busy = true
		w.s.commands.add(w)
	}
	if !w.subscribed {
		w.s.spoke(w)
	}
}

// judgeRate makes a refusal of a command that comes too soon after too many
// others, in its place among them. mu is held.
func (w *wsStream) judgeRate(q *wsQueue, item *wsItem) {
	cfg := &w.s.cfg.WebSocket
	now := w.s.deadlines.now()
	if instant(w.frames) <= now {
		q.refused = 0
	}
	if w.frames.take(now, cfg.FramesPerSecond, 64+cfg.MaxSubscriptions) {
		return
	}
	q.refused++
	item.over = true
	switch {
	case !validTaskID(item.cmd.taskID): // what no task is called is not sent back, again and again
		item.code = wsproto.ClosePolicy
	case q.refused > maxRefused:
		item.code = wsproto.CloseTryLater
	default:
		return
	}
	item.why = errFrameRate.Message
}

// shift takes the first frame out. There is one, and it is a command.
func (q *wsQueue) shift() wsItem {
	item := q.items[0]
	q.items[0] = wsItem{}
	q.items = q.items[1:]
	q.bytes -= item.size
	// A confirmation, an end of what was there and one of what began; each names
	// the task, and is at most this long beside.
	q.ahead += 3 * (item.size + 160)
	return item
}

// catchUp has taken called when what was answered so far is with the socket. mu
// is held.
func (w *wsStream) catchUp() {
	if q := w.queue; !q.asked {
		q.asked = true
		w.outlet.Tell(w.taken)
	}
}

// taken is called by the outlet.
func (w *wsStream) taken() {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue
	if q == nil {
		return
	}
	q.asked, q.ahead = false, 0
	w.goOn()
	w.tidy()
}

// goOn works on the frames that waited until there is room. mu is held.
func (w *wsStream) goOn() {
	if w.waiting {
		w.waiting = false
		w.s.commands.add(w)
	}
}

// tidy lets go of the queue when there is nothing to remember. mu is held.
func (w *wsStream) tidy() {
	switch q := w.queue; {
	case q.len() > 0:
	case q != nil && q.ahead > 0:
		w.catchUp()
	case q != nil && q.refused == 0:
		w.queue = nil
	}
}

// relieve has the socket read again, if it is not and little waits. mu is held.
func (w *wsStream) relieve() {
	if w.flags.has(held) && w.queue.len() <= fewQueued && (w.queue == nil || w.queue.bytes < maxQueuedBytes/2) {
		w.heard.Store(int64(w.s.deadlines.now()))
		w.flags.clear(held)
		w.sock.Resume()
	}
}

// dropQueue gives up what waits, for a stream that ends. mu is held.
func (w *wsStream) dropQueue() {
	w.queue = nil
	w.relieve() // the peer's close frame is to be found
}

// hangs notes that a store kept a frame waiting in vain. The frames that wait
// behind it get the same answer at once, or each of them would wait as long, and
// the client's pings with them.
func (w *wsStream) hangs(err error) {
	if engine.CodeOf(err) != engine.CodeStoreUnavailable && !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if q := w.queue; q != nil {
		q.hung, q.hungFor = err, len(q.items)
	}
}
