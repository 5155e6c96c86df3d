package rueidisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// firstEntries is how many entries a page begins with: an entry may hold many
// events, and what is over the limit was fetched for nothing.
const firstEntries = 64

// largeEntry is the assumed size of an entry, for a page that is bounded in bytes,
// before the first entries have been read. Usual entries are smaller; one may have
// 256 KiB.
const largeEntry = 64 << 10

var _ engine.BoundedReader = (*Store)(nil)

// Read implements engine.EventStore, usually in one round trip: the page, then
// the oldest entry, then the newest id, then the record. In this order an
// oldest event at or before the cursor proves that the page misses nothing.
func (s *Store) Read(ctx context.Context, taskID string, after engine.EventID, limit int) (engine.Page, error) {
	return s.ReadBytes(ctx, taskID, after, limit, math.MaxInt)
}

// ReadBytes implements engine.BoundedReader. It may fetch more entries than the page
// has room for.
func (s *Store) ReadBytes(ctx context.Context, taskID string, after engine.EventID, limit, maxBytes int) (engine.Page, error) {
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
	// An entry holds an event after the cursor at least, except one: the
	// cursor's own, or the header.
	count := min(limit, firstEntries, max(maxBytes/largeEntry, 1)) + 1
	var p engine.Page
	var fetched int
	for proven := false; ; proven = true {
		asked := rueidis.Commands{
			s.entriesFrom(log, after, count),
			b().Xrange().Key(log).Start("-").End("+").Count(2).Build(),
			b().Get().Key(s.keys.state(taskID)).Build(),
			b().Hget().Key(s.keys.task(taskID)).Field(fieldIncarnation).Build(),
		}
		if proven {
			asked = append(asked, b().Set().Key(s.keys.proof(0)).Value("").Px(proofTTL).Build())
		}
		answers := s.client.DoMulti(ctx, asked...)
		incarnation, err := answers[3].ToString()
		if rueidis.IsRedisNil(err) || err == nil && incarnation != incarnationOf(taskID) {
			return engine.Page{}, errNotFound()
		}
		for _, a := range answers {
			// Only the write can be refused by a full server, and then the server is
			// no replica: a replica stores what its primary sends.
			if err := a.Error(); err != nil && !rueidis.IsRedisNil(err) && !begins(asAnswer(err), full) {
				return engine.Page{}, classify("read a log", err)
			}
		}
		p, fetched, err = readPage(taskID, after, limit, answers)
		if errors.Is(err, errUnreadable) {
			return engine.Page{}, damaged("read a log", err)
		}
		if err != nil {
			return engine.Page{}, classify("read a log", err)
		}
		// A cursor beyond the end of the log means that the log has lost its tail, or
		// that this is a demoted server which lags behind. A server that takes a write
		// is not demoted. In a Cluster a demoted server answers MOVED.
		if proven || after.Ordinal <= p.Last.Ordinal || s.client.Mode() == rueidis.ClientModeCluster {
			break
		}
	}
	var err error
	for entries := fetched; err == nil && fetched == count && len(p.Events) < limit && p.More; entries += fetched {
		bytes := payloadBytes(p.Events)
		if bytes >= maxBytes {
			break
		}
		more := 2 * count
		if maxBytes < math.MaxInt { // the average size of an entry is known by now
			more = min(8*count, max((maxBytes-bytes)/max(bytes/entries, 1), 1))
		}
		count = min(limit-len(p.Events), more) + 1
		fetched, err = s.readOn(ctx, &p, taskID, limit, count)
	}
	cut(&p, maxBytes)
	if errors.Is(err, errUnreadable) {
		return engine.Page{}, damaged("read a log", err)
	}
	return p, classify("read a log", err)
}

// entriesFrom asks for entries from the cursor on, itself included: that shows
// whether it is there.
func (s *Store) entriesFrom(log string, cursor engine.EventID, count int) rueidis.Completed {
	return s.client.B().Xrange().Key(log).Start(cursor.String()).End("+").Count(int64(count)).Build()
}

// readOn adds to a page what comes after it, and gives how many entries it got.
// A page that the log was trimmed behind meanwhile stays as it is.
func (s *Store) readOn(ctx context.Context, p *engine.Page, taskID string, limit, count int) (int, error) {
	at := p.Events[len(p.Events)-1].ID
	entries, err := readEntries(s.client.Do(ctx, s.entriesFrom(s.keys.log(taskID), at, count)))
	if err != nil {
		return 0, err
	}
	had := len(p.Events)
	for _, e := range entries {
		if p.Events, err = decodeBatch(p.Events, taskID, e.id, e.batch, at, limit-len(p.Events)); err != nil {
			return 0, unreadable(err)
		}
	}
	if len(p.Events) == had || p.Events[had].ID.Ordinal != at.Ordinal+1 {
		p.Events = p.Events[:had]
		return 0, nil
	}
	finish(p)
	return len(entries), nil
}

// readPage also gives how many entries the page was made of.
func readPage(taskID string, after engine.EventID, limit int, answers []rueidis.RedisResult) (p engine.Page, fetched int, err error) {
	oldest, err := readEntries(answers[1])
	if err != nil {
		return p, 0, err
	}
	if len(oldest) == 0 {
		return engine.Page{Expired: true}, 0, nil
	}
	for _, e := range oldest {
		n, err := countOf(e.batch)
		if err != nil {
			return p, 0, unreadable(err)
		}
		if n > 0 {
			p.First = engine.EventID{Millis: e.id.Millis, Ordinal: e.id.Ordinal - n + 1}
			break
		}
	}
	if p.First.IsZero() {
		return p, 0, nil
	}
	if p.Last, err = readLast(answers[2], oldest); err != nil {
		return p, 0, err
	}
	entries, err := readEntries(answers[0])
	if err != nil {
		return p, 0, err
	}
	if len(entries) > 0 && after.Ordinal > 0 {
		e := entries[0]
		n, err := countOf(e.batch)
		if err != nil {
			return p, 0, unreadable(err)
		}
		p.Found = e.id.Millis == after.Millis && after.Ordinal > e.id.Ordinal-n
	}
	for _, e := range entries {
		if p.Events, err = decodeBatch(p.Events, taskID, e.id, e.batch, after, limit-len(p.Events)); err != nil {
			return p, 0, unreadable(err)
		}
		if len(p.Events) == limit {
			break
		}
	}
	finish(&p)
	return p, len(entries), nil
}

// finish compares the page with the newest id, which may be from before it.
func finish(p *engine.Page) {
	if len(p.Events) == 0 {
		return
	}
	last := p.Events[len(p.Events)-1].ID
	if last.Compare(p.Last) > 0 {
		p.Last = last
	}
	p.More = last != p.Last
}

// payloadBytes returns the bytes of all payloads of events.
func payloadBytes(events []engine.Event) (sum int) {
	for i := range events {
		sum += len(events[i].Payload)
	}
	return sum
}

// cut ends a page with the event whose payload brings the sum to maxBytes.
func cut(p *engine.Page, maxBytes int) {
	for i := range p.Events {
		if maxBytes -= len(p.Events[i].Payload); maxBytes <= 0 {
			p.Events = p.Events[: i+1 : i+1]
			finish(p)
			return
		}
	}
}

var errUnreadable = errors.New("what is stored cannot be read")

func unreadable(err error) error { return fmt.Errorf("%w: %w", errUnreadable, err) }

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
	if len(state) < 16 {
		return engine.EventID{}, unreadable(fmt.Errorf("a state of %d bytes", len(state)))
	}
	// As append.lua writes it.
	number := func(at int) uint64 {
		return uint64(math.Float64frombits(binary.LittleEndian.Uint64(bytesOf(state[at:]))))
	}
	return engine.EventID{Millis: number(0), Ordinal: number(8)}, nil
}

// entry is an entry of a log.
type entry struct {
	id    engine.EventID
	batch string
}

// readEntries reads what XRANGE gives. The batches are the client's memory.
func readEntries(answer rueidis.RedisResult) ([]entry, error) {
	if err := answer.Error(); err != nil {
		return nil, err
	}
	list, err := answer.ToArray()
	if err != nil {
		return nil, unreadable(err)
	}
	entries := make([]entry, len(list))
	for i := range list {
		if entries[i], err = readEntry(list[i]); err != nil {
			return nil, unreadable(err)
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
