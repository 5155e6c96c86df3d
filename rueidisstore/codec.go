package rueidisstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A batch, the field b of a log's entry:
//
//	version  1 byte
//	count    uvarint
//	count ×  kind 1 byte (0: uvarint length and name follow), created varint
//	         (Unix µs), uvarint length and payload
//
// The ids are not in it: they follow from the entry's, whose ordinal is that of
// the batch's last event. The first entry of a log has a batch without events;
// it is there so that the key exists from the beginning.
const batchVersion = 1

// kinds are the codes of event types. Codes are never used anew.
var kinds = [...]engine.EventType{
	1: engine.TypeStarted,
	2: engine.TypeProgress,
	3: engine.TypeMessage,
	4: engine.TypeSuspended,
	5: engine.TypeActionAccepted,
	6: engine.TypeCompleted,
	7: engine.TypeFailed,
	8: engine.TypeCancelled,
}

func kindOf(t engine.EventType) byte {
	for k := 1; k < len(kinds); k++ {
		if kinds[k] == t {
			return byte(k)
		}
	}
	return 0
}

// span is a part of an encoded batch.
type span struct{ from, to int }

// encodedBatch is a batch and where things lie in it, so that scripts can cut
// them out and nothing is sent twice.
type encodedBatch struct {
	bytes    []byte
	payloads []span
	// last is where the last event begins.
	last int
}

// text is the batch without a copy: it does not change any more.
func (e encodedBatch) text() string { return unsafe.String(unsafe.SliceData(e.bytes), len(e.bytes)) }

func encodeBatch(drafts []engine.Draft) encodedBatch {
	size := 1 + binary.MaxVarintLen32
	for i := range drafts {
		size += 1 + 2*binary.MaxVarintLen64 + len(drafts[i].Payload)
	}
	e := encodedBatch{bytes: make([]byte, 0, size), payloads: make([]span, len(drafts))}
	e.bytes = append(e.bytes, batchVersion)
	e.bytes = binary.AppendUvarint(e.bytes, uint64(len(drafts)))
	for i, d := range drafts {
		e.last = len(e.bytes)
		k := kindOf(d.Type)
		e.bytes = append(e.bytes, k)
		if k == 0 {
			e.bytes = binary.AppendUvarint(e.bytes, uint64(len(d.Type)))
			e.bytes = append(e.bytes, d.Type...)
		}
		e.bytes = binary.AppendVarint(e.bytes, d.CreatedAt.UnixMicro())
		e.bytes = binary.AppendUvarint(e.bytes, uint64(len(d.Payload)))
		from := len(e.bytes)
		e.bytes = append(e.bytes, d.Payload...)
		e.payloads[i] = span{from, len(e.bytes)}
	}
	return e
}

var (
	errCutBatch = errors.New("rueidisstore: a batch that is cut short or damaged")
	errBatchID  = errors.New("rueidisstore: a batch with more events than its entry's ordinal allows")
)

// decodeBatch appends the events of the entry with this id and field b that lie
// after the cursor, limit at most.
//
// Payloads share b's memory.
func decodeBatch(dst []engine.Event, taskID string, id engine.EventID, b string, after engine.EventID, limit int) ([]engine.Event, error) {
	if b == "" {
		return dst, errCutBatch
	}
	if b[0] != batchVersion {
		return dst, fmt.Errorf("rueidisstore: a batch of format %d; this library knows %d", b[0], batchVersion)
	}
	rest := bytesOf(b)[1:]
	count, n := binary.Uvarint(rest)
	// An event takes 3 bytes at least, so that count cannot ask for the world.
	if n <= 0 || count > uint64(len(rest))/3 {
		return dst, errCutBatch
	}
	if count > id.Ordinal {
		return dst, errBatchID
	}
	rest = rest[n:]
	at := engine.EventID{Millis: id.Millis, Ordinal: id.Ordinal - count}
	for range count {
		var (
			ev  engine.Event
			err error
		)
		if ev, rest, err = decodeEvent(rest); err != nil {
			return dst, err
		}
		at.Ordinal++
		if limit <= 0 || at.Compare(after) <= 0 {
			continue
		}
		ev.ID, ev.TaskID = at, taskID
		dst = append(dst, ev)
		limit--
	}
	if len(rest) != 0 {
		return dst, errCutBatch
	}
	return dst, nil
}

// decodeEvent cuts one event off b.
func decodeEvent(b []byte) (ev engine.Event, rest []byte, err error) {
	if len(b) == 0 {
		return ev, nil, errCutBatch
	}
	kind := b[0]
	b = b[1:]
	switch {
	case kind == 0:
		var name []byte
		if name, b, err = cutBytes(b); err != nil {
			return ev, nil, err
		}
		ev.Type = engine.EventType(name)
	case int(kind) < len(kinds):
		ev.Type = kinds[kind]
	default:
		return ev, nil, fmt.Errorf("rueidisstore: an event of kind %d, which this library does not know", kind)
	}
	micros, n := binary.Varint(b)
	if n <= 0 {
		return ev, nil, errCutBatch
	}
	ev.CreatedAt = time.UnixMicro(micros).UTC()
	payload, rest, err := cutBytes(b[n:])
	if err != nil {
		return ev, nil, err
	}
	ev.Payload = payload[:len(payload):len(payload)]
	return ev, rest, nil
}

func cutBytes(b []byte) (field, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, errCutBatch
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

// countOf is how many events the batch b holds, without decoding it.
func countOf(b string) (uint64, error) {
	if b == "" || b[0] != batchVersion {
		return 0, errCutBatch
	}
	count, n := binary.Uvarint([]byte(b[1:min(len(b), 1+binary.MaxVarintLen64)]))
	if n <= 0 {
		return 0, errCutBatch
	}
	return count, nil
}

// bytesOf is s without a copy. What Redis answered is never written to, here or
// by whoever gets it: records and events are shared and immutable.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// parseID reads the id of an entry.
func parseID(s string) (engine.EventID, error) {
	id, err := engine.ParseCursor(s)
	if err != nil || s == "" {
		return engine.EventID{}, fmt.Errorf("rueidisstore: %q is not the id of an entry", s)
	}
	return id, nil
}
