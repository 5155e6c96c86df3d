package rueidisstore

import (
	"context"
	"strings"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Read implements engine.EventStore, in one round trip: the page, then the
// oldest entry, then the newest id, then the record. In this order an oldest
// event at or before the cursor proves that the page misses nothing.
func (s *Store) Read(ctx context.Context, taskID string, after engine.EventID, limit int) (engine.Page, error) {
	if s.isClosed() {
		return engine.Page{}, errClosed()
	}
	if !validID(taskID) {
		return engine.Page{}, errNotFound()
	}
	limit = max(limit, 1)
	ctx, done := s.bound(ctx)
	defer done()
	log, b := s.keys.log(taskID), s.client.B
	// From the cursor on, itself included: that shows whether it is there. An
	// entry holds an event after the cursor at least, except one: the cursor's
	// own, or the header.
	count := int64(limit) + 1
	answers := s.client.DoMulti(ctx,
		b().Xrange().Key(log).Start(after.String()).End("+").Count(count).Build(),
		b().Xrange().Key(log).Start("-").End("+").Count(2).Build(),
		b().Get().Key(s.keys.state(taskID)).Build(),
		b().Hget().Key(s.keys.task(taskID)).Field(fieldIncarnation).Build(),
	)
	incarnation, err := answers[3].ToString()
	if rueidis.IsRedisNil(err) || err == nil && incarnation != incarnationOf(taskID) {
		return engine.Page{}, errNotFound()
	}
	for _, a := range answers {
		if err := a.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return engine.Page{}, classify("read a log", err)
		}
	}
	p, err := readPage(taskID, after, limit, answers)
	if err != nil {
		return engine.Page{}, damaged("read a log", err)
	}
	return p, nil
}

func readPage(taskID string, after engine.EventID, limit int, answers []rueidis.RedisResult) (engine.Page, error) {
	oldest, err := readEntries(answers[1])
	if err != nil {
		return engine.Page{}, err
	}
	if len(oldest) == 0 {
		return engine.Page{Expired: true}, nil
	}
	var p engine.Page
	for _, e := range oldest {
		n, err := countOf(e.batch)
		if err != nil {
			return engine.Page{}, err
		}
		if n > 0 {
			p.First = engine.EventID{Millis: e.id.Millis, Ordinal: e.id.Ordinal - n + 1}
			break
		}
	}
	if p.Last, err = readLast(answers[2], oldest); err != nil || p.First.IsZero() {
		return engine.Page{}, err
	}
	entries, err := readEntries(answers[0])
	if err != nil {
		return engine.Page{}, err
	}
	if len(entries) > 0 && after.Ordinal > 0 {
		e := entries[0]
		n, err := countOf(e.batch)
		if err != nil {
			return engine.Page{}, err
		}
		p.Found = e.id.Millis == after.Millis && after.Ordinal > e.id.Ordinal-n
	}
	for _, e := range entries {
		if p.Events, err = decodeBatch(p.Events, taskID, e.id, e.batch, after, limit-len(p.Events)); err != nil {
			return engine.Page{}, err
		}
		if len(p.Events) == limit {
			break
		}
	}
	if n := len(p.Events); n > 0 {
		// Appended between the page and the state, or between state and page
		// if they were not read on one connection.
		if last := p.Events[n-1].ID; last.Compare(p.Last) > 0 {
			p.Last = last
		}
		p.More = p.Events[n-1].ID != p.Last
	}
	return p, nil
}

// readLast reads the newest id from the state; if that is gone, evicted, from
// what there is of the log.
func readLast(answer rueidis.RedisResult, oldest []entry) (engine.EventID, error) {
	state, err := answer.ToString()
	if rueidis.IsRedisNil(err) {
		return oldest[len(oldest)-1].id, nil
	}
	if err != nil {
		return engine.EventID{}, err
	}
	ms, rest, _ := strings.Cut(state, "-")
	ordinal, _, _ := strings.Cut(rest, "-")
	return parseID(ms + "-" + ordinal)
}

// entry is an entry of a log.
type entry struct {
	id    engine.EventID
	batch string
}

// readEntries reads what XRANGE gives. The batches are the client's memory.
func readEntries(answer rueidis.RedisResult) ([]entry, error) {
	list, err := answer.ToArray()
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(list))
	for i := range list {
		if entries[i], err = readEntry(list[i]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// readEntry reads one element of what XRANGE gives.
func readEntry(m rueidis.RedisMessage) (e entry, err error) {
	pair, err := m.ToArray()
	if err != nil {
		return entry{}, err
	}
	if len(pair) != 2 {
		return entry{}, errCutBatch
	}
	id, err := pair[0].ToString()
	if err != nil {
		return entry{}, err
	}
	if e.id, err = parseID(id); err != nil {
		return entry{}, err
	}
	fields, err := pair[1].ToArray()
	if err != nil {
		return entry{}, err
	}
	if len(fields) < 2 {
		return entry{}, errCutBatch
	}
	e.batch, err = fields[1].ToString()
	return e, err
}
