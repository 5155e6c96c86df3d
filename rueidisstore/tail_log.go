package rueidisstore

import (
	"context"
	"log/slog"
	"slices"
	"sort"
	"sync"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Entries a read asks for: few at first, more while they are small.
const (
	firstPage = 16
	minPage   = 4
	maxPage   = 512
	smallPage = 64 << 10 // bytes
	largePage = 256 << 10
)

// feed is a log with all who follow it in this process. Its lines are read
// independently; a line that has reached the end joins one that is there, so
// that usually there is one.
type feed struct {
	key    string
	taskID string
	refs   int // under tail.mu

	// mu guards the lines and everybody on them, and is held while followers
	// are called.
	mu    sync.Mutex
	lines []*line
}

// line is a place in a log that is read on from.
type line struct {
	unit
	feed *feed
	tail *tail

	// Everything below is guarded by feed.mu.

	// from is where reading goes on: at the end of an entry, or wherever the
	// first follower began. No follower of the line stands before it.
	from      engine.EventID
	followers []*follower
	page      int // entries to ask for
	// begun is settled with the first answer that says where the log is.
	begun beginning
	// seeking says that from is not in the log, nor anything after it: the next
	// question is where the log ends.
	seeking bool
	// atEnd says that the last answer was all there was.
	atEnd bool
	// missing says that the log was not there when it was last read.
	missing bool
}

// follower is one Follow.
type follower struct {
	to   engine.Follower
	feed *feed
	// Guarded by feed.mu:
	line *line // nil once it has left
	// at is the last event it has had, or where it began.
	at engine.EventID
	// adrift says that it was told Lost and that the next event may be any.
	adrift bool
}

// question is what a unit asked, so that an answer to an older question is
// recognised.
type question struct {
	from  engine.EventID
	page  int
	proof bool // the entry at from is to be in the answer
	end   bool // the newest entry only
	// proven is set with the answer if the server took a write right after the
	// read. A demoted server can be read, but lacks what the new primary has.
	proven bool
}

// follow begins to push the events of a log after the cursor. It returns when
// the log was found; if it is not there, with a follower that waits for it and
// errLogMissing.
func (t *tail) follow(ctx context.Context, key, taskID string, after engine.EventID, to engine.Follower) (*follower, error) {
	f := t.feed(key, taskID)
	who := &follower{to: to, feed: f, at: after}
	l := &line{feed: f, tail: t, from: after, followers: []*follower{who}, page: firstPage, begun: newBeginning()}
	l.unit = unit{key: key, read: l}
	who.line = l
	f.mu.Lock()
	f.lines = append(f.lines, l)
	f.mu.Unlock()
	err := t.watch(&l.unit)
	if err == nil {
		err = t.await(ctx, &l.begun)
	}
	return who, err
}

// feed returns the feed of a key, to be given back by unfollow.
func (t *tail) feed(key, taskID string) *feed {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.feeds[key]
	if f == nil {
		f = &feed{key: key, taskID: taskID}
		t.feeds[key] = f
	}
	f.refs++
	return f
}

// unfollow returns when no call to who is under way and none will follow.
func (t *tail) unfollow(who *follower) {
	f := who.feed
	f.mu.Lock()
	l := who.line
	if l == nil {
		f.mu.Unlock()
		return
	}
	who.line = nil
	l.followers = slices.DeleteFunc(l.followers, func(other *follower) bool { return other == who })
	if len(l.followers) == 0 {
		f.remove(l)
	}
	f.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.refs--; f.refs == 0 {
		delete(t.feeds, f.key)
	}
}

// remove ends a line. f.mu is held.
func (f *feed) remove(l *line) {
	f.lines = slices.DeleteFunc(f.lines, func(other *line) bool { return other == l })
	l.tail.unwatch(&l.unit)
}

// question implements reading.
func (l *line) question(doubt bool) question {
	l.feed.mu.Lock()
	defer l.feed.mu.Unlock()
	return question{from: l.from, page: l.page, proof: doubt, end: l.seeking}
}

// command implements reading.
//
// It is XRANGE although XREAD would do as well: see docs/adr/0006-tail-reads.md.
func (l *line) command(b rueidis.Builder, q question) rueidis.Completed {
	switch {
	case q.end:
		return b.Xrevrange().Key(l.key).End("+").Start("-").Count(1).Build()
	case q.from.IsZero():
		return b.Xrange().Key(l.key).Start("-").End("+").Count(int64(q.page)).Build()
	}
	from := q.from
	if !q.proof {
		from.Ordinal++
	}
	return b.Xrange().Key(l.key).Start(from.String()).End("+").Count(int64(q.page)).Build()
}

// answer implements reading.
func (l *line) answer(q question, woken bool, reply []rueidis.RedisMessage) outcome {
	l.feed.mu.Lock()
	defer l.feed.mu.Unlock()
	p := parsePage(reply, q.from, l.feed.taskID, l.tail.cfg.Logger)
	out := outcome{bytes: p.bytes, news: len(p.events) > 0}
	if len(l.followers) == 0 {
		return out
	}
	if q.from != l.from || q.end != l.seeking {
		out.verdict = again
		if q.proof {
			out.verdict = doubtful
		}
		return out
	}
	if !q.proven && (q.proof || q.end || q.from.IsZero()) {
		out.verdict = unproven // it may say that something was lost
		return out
	}
	l.atEnd = false
	if q.end {
		l.seeking = false
		l.found(p)
		return out
	}
	if len(p.events) > 0 || p.entries > 0 && q.from.IsZero() {
		l.missing = false
	}
	switch {
	case p.entries == 0 && q.from.IsZero():
		l.vanished()
		return out
	case q.from.IsZero() || !q.proof: // ordinals tell
		if p.entries == 0 && woken {
			// It was trimmed, or its life was prolonged, or it is gone.
			out.verdict = doubtful
			return out
		}
	case p.holds:
		for _, f := range l.followers {
			if f.at != q.from && !p.has(f.at) {
				f.lose()
			}
		}
	case p.entries == 0:
		// Neither what was had nor anything after it. Where the log ends must be
		// known before anybody is told that it is another one, or what is
		// appended between the two would be pushed to nobody.
		l.seeking = true
		out.verdict = again
		return out
	case !l.begun.pending():
		for _, f := range l.followers {
			f.lose()
		}
	}
	for _, f := range l.followers {
		f.take(p.events)
	}
	if !p.last.IsZero() {
		l.from = p.last
		for _, f := range l.followers {
			if f.at.IsZero() {
				f.at = p.last // the header
			}
		}
	}
	l.begun.settle(nil)
	l.resize(p)
	if p.entries == q.page {
		out.verdict = again
		return out
	}
	l.atEnd = true
	l.join()
	return out
}

// failed implements reading.
func (l *line) failed(err error) { l.begun.failed(err) }

// found goes on at the end of a log that does not hold what it held. A log
// that is not there is given up until it appears.
func (l *line) found(p page) {
	if p.entries == 0 {
		l.vanished()
		return
	}
	l.from = p.last
	for _, f := range l.followers {
		f.lose()
		f.at, f.adrift = p.last, false
	}
	l.begun.settle(nil)
	l.atEnd = true
	l.join()
}

// vanished notes that the log is not there. To a Follow that just began it is
// said otherwise, since the task may be unknown.
func (l *line) vanished() {
	if l.missing {
		return
	}
	l.missing, l.from = true, engine.EventID{}
	fresh := l.begun.pending()
	for _, f := range l.followers {
		if !fresh {
			f.to.Lost()
		}
		f.at, f.adrift = engine.EventID{}, true
	}
	l.begun.settle(errLogMissing)
}

// join merges the line into another that has reached the end too.
func (l *line) join() {
	for _, other := range l.feed.lines {
		if other == l || !other.atEnd || l.from.Compare(other.from) < 0 {
			continue
		}
		for _, f := range l.followers {
			f.line = other
		}
		other.followers = append(other.followers, l.followers...)
		l.followers = nil
		l.feed.remove(l)
		return
	}
}

// resize asks for as many entries as are worth a round.
func (l *line) resize(p page) {
	switch {
	case p.bytes > largePage:
		l.page = max(l.page/2, minPage)
	case p.entries == l.page && p.bytes < smallPage:
		l.page = min(l.page*2, maxPage)
	}
}

// lose says that what comes next may not join on to what was had.
func (f *follower) lose() {
	f.adrift = true
	f.to.Lost()
}

// take pushes what f has not had of events, which are in order.
func (f *follower) take(events []engine.Event) {
	events = events[sort.Search(len(events), func(i int) bool { return events[i].ID.Compare(f.at) > 0 }):]
	for len(events) > 0 {
		if !f.adrift && events[0].ID.Ordinal != f.at.Ordinal+1 {
			f.lose()
		}
		f.adrift = false
		dense := 1
		for dense < len(events) && events[dense].ID.Ordinal == events[dense-1].ID.Ordinal+1 {
			dense++
		}
		f.to.Push(events[:dense:dense])
		f.at = events[dense-1].ID
		events = events[dense:]
	}
}

// page is what a read brought.
type page struct {
	events  []engine.Event // after the position that was asked for
	entries int
	bytes   int
	last    engine.EventID // the last entry's id
	holds   bool           // the position is that of an event or entry in it
}

func (p page) has(id engine.EventID) bool {
	i := sort.Search(len(p.events), func(i int) bool { return p.events[i].ID.Compare(id) >= 0 })
	return i < len(p.events) && p.events[i].ID == id
}

// parsePage reads what XRANGE and XREVRANGE of one entry answer. What cannot be
// read is left out: ordinals will tell that something is missing.
func parsePage(reply []rueidis.RedisMessage, from engine.EventID, taskID string, log *slog.Logger) page {
	p := page{entries: len(reply)}
	for i := range reply {
		e, err := readEntry(reply[i])
		if !e.id.IsZero() {
			p.last = e.id
		}
		if err == nil {
			p.bytes += len(e.batch)
			p.holds = p.holds || i == 0 && e.holds(from)
			p.events, err = decodeBatch(p.events, taskID, e.id, e.batch, from, len(e.batch))
		}
		if err != nil {
			log.Error("rueidisstore: an entry that cannot be read", "task", taskID, "entry", e.id.String(), "error", err)
		}
	}
	return p
}

// holds reports whether e is at the position, or an event of it is; at the
// position of the header also if e has the first event.
func (e entry) holds(id engine.EventID) bool {
	count, err := countOf(e.batch)
	switch {
	case e.id == id:
		return true
	case err != nil:
		return false
	case id.Ordinal == 0:
		return e.id.Ordinal == count
	}
	return e.id.Millis == id.Millis && id.Ordinal <= e.id.Ordinal && e.id.Ordinal-id.Ordinal < count
}
