package rueidisstore_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// witness is a follower that keeps what it gets.
type witness struct {
	load  *load
	after engine.EventID

	mu     sync.Mutex
	events []engine.Event // since it was last told Lost
	all    int
	lost   int
}

// Push implements engine.Follower.
func (w *witness) Push(events []engine.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, events...)
	w.all += len(events)
}

// Lost implements engine.Follower.
func (w *witness) Lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost++
	w.events = nil
}

func (w *witness) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events) > 0 && w.events[len(w.events)-1].Type.Terminal()
}

// follow adds a follower of the store.
func (tr *trial) follow(l *load, cursor engine.EventID) {
	tr.Helper()
	w := &witness{load: l, after: cursor}
	var stop func()
	tr.persist("follow", func() (err error) {
		stop, err = tr.reader.Follow(tr.Context(), l.task.ID, cursor, w)
		return err
	})
	tr.Cleanup(stop)
	tr.followers = append(tr.followers, w)
}

// slowest is how long a call may take while Redis does not answer, which is
// bounded by twice two seconds, on a busy machine.
const slowest = 10 * time.Second

// persist repeats do while the store is unavailable, as clients do.
func (tr *trial) persist(what string, do func() error) {
	tr.Helper()
	var err error
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		start := time.Now()
		err = do()
		if took := time.Since(start); took > slowest {
			tr.Errorf("%s: the answer took %v", what, took)
		}
		if engine.CodeOf(err) != engine.CodeStoreUnavailable {
			break
		}
		time.Sleep(20 * time.Millisecond) // the pace of the repeats
	}
	if err != nil {
		tr.Fatalf("%s: %v", what, err)
	}
}

func (w *witness) losses() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

func (w *witness) verify(tr *trial, log []engine.Event, p promise) {
	tr.Helper()
	who := fmt.Sprintf("a follower of %s", w.load)
	eventually(tr.T, who+" gets the end", w.over)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost == 0 {
		tr.compare(who, encoded(w.events), encoded(after(log, w.after)))
		return
	}
	if p == keepsAll {
		tr.Errorf("%s was told Lost %d times and nothing was lost", who, w.lost)
	}
	// What came after Lost is a part of the log that goes on to its end.
	from := w.events[0].ID
	from.Ordinal--
	tr.compare(who+", after Lost", encoded(w.events), encoded(after(log, from)))
}

// lines is a transport that writes an event a line.
type lines struct{}

const gapMark = "gap "

// notice is a gap as lines tells it.
type notice struct {
	Reason       string
	After, First engine.EventID
}

// AppendEntry implements fanout.Framing.
func (lines) AppendEntry(dst []byte, _ string, e fanout.Entry) []byte {
	return append(append(dst, e.Body...), '\n')
}

// AppendGap implements fanout.Framing.
func (lines) AppendGap(dst []byte, _ string, g fanout.Gap) []byte {
	b, _ := json.Marshal(notice{string(g.Reason), engine.EventID(g.After), engine.EventID(g.First)})
	return append(append(append(dst, gapMark...), b...), '\n')
}

// AppendHeartbeat implements fanout.Framing.
func (lines) AppendHeartbeat(dst []byte, _ string, _ time.Time) []byte { return dst }

// outlet is a subscriber of a hub that keeps all that it is sent.
type outlet struct {
	load  *load
	start engine.Start

	mu     sync.Mutex
	buf    bytes.Buffer
	over   bool
	failed error
	ended  bool
}

// TryWrite implements fanout.Sink.
func (o *outlet) TryWrite(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// Finished implements fanout.Sink.
func (o *outlet) Finished(string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
}

// Failed implements fanout.Sink.
func (o *outlet) Failed(_ string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = err
}

// Ended implements fanout.Sink.
func (o *outlet) Ended(fanout.EndReason) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

// subscribe adds an outlet as a transport does.
func (tr *trial) subscribe(l *load, cursor engine.EventID) {
	tr.Helper()
	o := &outlet{load: l}
	tr.persist("subscribe", func() (err error) {
		o.start, err = tr.hub.Subscribe(tr.Context(), engine.AuthContext{Subject: owner},
			engine.SubscribeRequest{TaskID: l.task.ID, After: cursor, Transport: "sse"})
		return err
	})
	if o.start.Gap != nil {
		tr.Errorf("subscribing to %s after %s met a gap: %+v", l, cursor, *o.start.Gap)
	}
	out := tr.hub.Hub().Open(o, fanout.OutletConfig{Framing: lines{}, WriteTimeout: time.Minute})
	out.Follow(l.task.ID, fanout.ID(o.start.Position), nil)
	tr.outlets = append(tr.outlets, o)
}

func (o *outlet) done() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.over || o.ended || o.failed != nil
}

func (o *outlet) sent() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// lastSent is the id of the last event that was sent, zero if none was.
func (o *outlet) lastSent() engine.EventID {
	var id engine.EventID
	sent := strings.TrimSuffix(o.sent(), "\n")
	if _, rest, ok := strings.Cut(sent[strings.LastIndexByte(sent, '\n')+1:], `"eventId":"`); ok {
		text, _, _ := strings.Cut(rest, `"`)
		id, _ = engine.ParseCursor(text)
	}
	return id
}

func (o *outlet) verify(tr *trial, log []engine.Event, p promise) {
	tr.Helper()
	who := fmt.Sprintf("an outlet of %s", o.load)
	eventually(tr.T, who+" gets the end", o.done)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed != nil || o.ended {
		tr.Errorf("%s was cut off: %v", who, o.failed)
		return
	}
	held, gaps, err := replay(o.buf.String(), o.start.Position)
	if err != nil {
		tr.Errorf("%s: %v", who, err)
		return
	}
	if len(gaps) > 0 && p == keepsAll {
		tr.Errorf("%s was told of %v and nothing was lost", who, gaps)
	}
	for _, g := range gaps {
		if g.Reason != string(engine.GapAhead) {
			tr.Errorf("%s was told %q; what a failover loses is %q", who, g.Reason, engine.GapAhead)
		}
	}
	tr.compare(who, held, encoded(after(log, o.start.Position)))
}

// replay does what a client does with what it is sent: it keeps events in
// order, refuses a hole that was not announced, and at a notice drops what the
// log no longer has.
func replay(sent string, at engine.EventID) (held []string, gaps []notice, err error) {
	base := at.Ordinal // held[i] has ordinal base+i+1
	adrift := false
	for line := range strings.Lines(sent) {
		line = strings.TrimSuffix(line, "\n")
		if told, ok := strings.CutPrefix(line, gapMark); ok {
			var g notice
			if err := json.Unmarshal([]byte(told), &g); err != nil {
				return nil, nil, err
			}
			gaps, adrift = append(gaps, g), true
			continue
		}
		var ev struct{ EventID string }
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			return nil, nil, err
		}
		id, err := engine.ParseCursor(ev.EventID)
		if err != nil {
			return nil, nil, err
		}
		next := base + uint64(len(held)) + 1
		if adrift && id.Ordinal > base && id.Ordinal < next {
			held = held[:id.Ordinal-base-1]
			next = id.Ordinal
		}
		if id.Ordinal != next {
			return nil, nil, fmt.Errorf("event %s where ordinal %d was due, after the notices %v", id, next, gaps)
		}
		held, adrift = append(held, line), false
	}
	return held, gaps, nil
}
