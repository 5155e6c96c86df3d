package fanout

import (
	"bytes"
	"slices"
)

// span is what lies between a cursor and a later position, as bytes of a
// transport. It is shared by all outlets that stand at the cursor.
type span struct {
	bytes []byte
	end   ID
	over  bool // the final entry is in it
	full  bool // bounded by FlushBytes or a page, not by the head
	gap   bool // begins with the notice of a gap
	// marks says where each entry ends, if there are several.
	marks []mark
}

// mark is the end of an entry, counted in bytes from the end of the span.
type mark struct {
	left int
	id   ID
}

// shorten cuts s behind the entry that taken bytes end in, and returns its rest:
// what a full sink must still get before anything else. The other entries are
// had again from the log, so that a parked subscriber costs part of one entry,
// and not a span that nobody else may need. It reports false if there is nothing
// to be cut off.
func (s *span) shorten(taken int) (rest []byte, ok bool) {
	left := len(s.bytes) - taken
	for i := range s.marks {
		m := &s.marks[i]
		if m.left > left {
			continue
		}
		if m.left == 0 {
			return nil, false
		}
		rest = bytes.Clone(s.bytes[taken : len(s.bytes)-m.left])
		s.bytes, s.end, s.over, s.full, s.marks = nil, m.id, false, true, nil
		return rest, true
	}
	return nil, false
}

type spanKey struct {
	log     *log
	page    uint64 // the flight's number, for what was read: not to be mixed up with the ring's
	framing Framing
	epoch   uint32
	merged  bool
	after   ID
}

// spanCache keeps the spans that others may want as well, for about a second:
// those that follow one log write the same, and those that reconnect together
// often stand at the same cursor.
//
// Each loop has one of its own. Two loops frame the same span twice, which
// takes 1 µs for a flush of 16 entries (BenchmarkFrame), where looking into a
// cache that they share would take as many locks as there are writes, of 5 µs
// and more each.
type spanCache struct {
	hot     span // the one used last
	hotKey  spanKey
	spans   map[spanKey]span
	order   queue[spanKey]
	bytes   int
	expiry  int64
	touched bool
}

const (
	spanCacheBytes = 4 << 20
	spanCacheAge   = int64(1e9)
)

func (c *spanCache) init() {
	c.spans = make(map[spanKey]span)
	c.expiry = never
}

// get returns a span that begins at k. One that ended at the head of its time
// is of use only if that is still the head.
func (c *spanCache) get(k *spanKey, head ID) (span, bool) {
	if c.hotKey == *k && (c.hot.full || c.hot.end == head) {
		c.touched = true
		return c.hot, true
	}
	s, ok := c.spans[*k]
	if !ok || !s.full && s.end != head {
		return span{}, false
	}
	c.touched = true
	c.hotKey, c.hot = *k, s
	return s, true
}

func (c *spanCache) put(k spanKey, s span, now int64) {
	c.hotKey, c.hot = k, s
	if old, ok := c.spans[k]; ok {
		c.bytes -= len(old.bytes)
	} else {
		c.order.push(k)
	}
	c.spans[k] = s
	c.bytes += len(s.bytes)
	for c.bytes > spanCacheBytes && c.order.len() > 1 {
		k := c.order.pop()
		c.bytes -= len(c.spans[k].bytes)
		delete(c.spans, k)
	}
	c.touched = true
	if c.expiry == never {
		c.expiry = now + spanCacheAge
	}
}

// expire empties the cache when it was of no use for a while.
func (c *spanCache) expire(now int64) {
	if now < c.expiry {
		return
	}
	if c.touched {
		c.touched = false
		c.expiry = now + spanCacheAge
		return
	}
	*c = spanCache{}
	c.init()
}

// scratch is memory that a loop uses again and again.
type scratch struct {
	entries []Entry
	bytes   []byte
	marks   []mark
	finals  []*sub
	parts   []part
}

// frame encodes entries, as many as fit one write, into a buffer of their own,
// merged if they are to be. full says that entries were left out.
func (l *loop) frame(framing Framing, key string, entries []Entry, merged bool) span {
	var s span
	buf, marks := l.work.bytes[:0], l.work.marks[:0]
	limit := l.hub.cfg.FlushBytes
	for i, n := 0, 1; i < len(entries); i += n {
		e := entries[i]
		if merged {
			e, n = l.hub.merger.Merge(entries[i:], limit)
			n = max(n, 1)
		}
		end := len(buf)
		buf = framing.AppendEntry(buf, key, e)
		if len(buf) > limit && i > 0 {
			buf = buf[:end]
			s.full = true
			break
		}
		s.end, s.over = e.ID, e.Final
		marks = append(marks, mark{len(buf), e.ID})
	}
	if len(marks) > 1 {
		s.marks = slices.Clone(marks)
		for i := range s.marks {
			s.marks[i].left = len(buf) - s.marks[i].left
		}
	}
	l.work.marks = emptied(marks)
	s.bytes = append(make([]byte, 0, len(buf)), buf...)
	if cap(buf) <= 4*l.hub.cfg.FlushBytes {
		l.work.bytes = buf
	}
	return s
}
