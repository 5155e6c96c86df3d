package rueidisstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// promise is what a set-up says about appends that it acknowledged.
type promise bool

const (
	keepsAll    promise = true  // they are all there
	mayLoseTail promise = false // the end of a log may be lost, and that is announced
)

// verify waits until everybody has seen every task's end and compares what they
// hold with what the store holds.
func (tr *trial) verify(p promise) {
	tr.Helper()
	since := time.Now()
	truth := tr.open()
	logs := map[string][]engine.Event{}
	for _, l := range tr.loads {
		log := tr.readAll(truth, l.task.ID)
		tr.checkLog(l, log, p)
		logs[l.task.ID] = log
	}
	if tr.Failed() {
		tr.FailNow()
	}
	for _, w := range tr.followers {
		w.verify(tr, logs[w.load.task.ID], p)
	}
	for _, o := range tr.outlets {
		o.verify(tr, logs[o.load.task.ID], p)
	}
	events := 0
	for _, log := range logs {
		events += len(log)
	}
	tr.Logf("%d events in %d logs; all of them were with all %d followers and %d outlets %v after they were stored",
		events, len(logs), len(tr.followers), len(tr.outlets), time.Since(since).Round(time.Millisecond))
}

// readAll reads a log, page by page.
func (tr *trial) readAll(s engine.Store, taskID string) []engine.Event {
	tr.Helper()
	var all []engine.Event
	var after engine.EventID
	for {
		var page engine.Page
		tr.persist("read "+taskID, func() (err error) {
			page, err = s.Read(context.Background(), taskID, after, 500)
			return err
		})
		all = append(all, page.Events...)
		if !page.More || len(page.Events) == 0 {
			return all
		}
		after = all[len(all)-1].ID
	}
}

// checkLog looks for what a fault may do to a log: a hole in the ordinals, an
// event twice or out of order, an acknowledged one that is missing.
func (tr *trial) checkLog(l *load, log []engine.Event, p promise) {
	tr.Helper()
	var last int64
	for i, ev := range log {
		if ev.ID.Ordinal != uint64(i+1) {
			tr.Errorf("%s: event %d has id %s", l.task.ID, i+1, ev.ID)
			return
		}
		if i > 0 && ev.ID.Millis < log[i-1].ID.Millis {
			tr.Errorf("%s: the milliseconds go back at %s", l.task.ID, ev.ID)
		}
		if ev.Type != engine.TypeMessage {
			continue
		}
		n := number(ev)
		if n <= last || p == keepsAll && n != last+1 {
			tr.Errorf("%s: message %d comes after message %d", l.task.ID, n, last)
			return
		}
		last = n
	}
	if acked := l.acked.Load(); p == keepsAll && last < acked {
		tr.Errorf("%s: the log ends with message %d; %d was acknowledged", l.task.ID, last, acked)
	}
	if len(log) == 0 || !log[len(log)-1].Type.Terminal() {
		tr.Errorf("%s: no terminal event at the end of %d events", l.task.ID, len(log))
	}
}

// number is the number that a message has for text.
func number(ev engine.Event) int64 {
	var m engine.Message
	if err := json.Unmarshal(ev.Payload, &m); err != nil {
		return -1
	}
	n, err := strconv.ParseInt(m.Text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// compare holds what somebody holds against the part of the log that begins
// with want[0].
func (tr *trial) compare(who string, got, want []string) {
	tr.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			tr.Errorf("%s: event %d is\n%s, the store's is\n%s", who, i+1, got[i], want[i])
			return
		}
	}
	if len(got) != len(want) {
		tr.Errorf("%s holds %d events, the store %d", who, len(got), len(want))
	}
}

func encoded(events []engine.Event) []string {
	lines := make([]string, len(events))
	for i, ev := range events {
		lines[i] = string(ev.AppendJSON(nil))
	}
	return lines
}

// after is the part of a log behind a cursor.
func after(log []engine.Event, cursor engine.EventID) []engine.Event {
	if cursor.Ordinal >= uint64(len(log)) {
		return nil
	}
	return log[cursor.Ordinal:]
}

func (l *load) String() string {
	kind := "busy"
	if l.quiet {
		kind = "quiet"
	}
	return fmt.Sprintf("%s task %s", kind, l.task.ID)
}
