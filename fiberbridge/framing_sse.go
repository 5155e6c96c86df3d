package fiberbridge

import (
	"strconv"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// sseFraming writes a log as Server-Sent Events (WHATWG HTML, section 9.2).
// Only events carry an id; notices and heartbeats do not move a client's
// cursor. Each event is a chunk of its own, so that buffers can be joined and
// shared between streams.
//
// Comments and retry lines take effect without a blank line, and none is sent after
// them: many readers dispatch a message with empty data for a block that has no data
// line. They are a part of the next block that has one.
type sseFraming struct {
	// chunked is off for HTTP/1.0, where the end of the connection is the end
	// of the body.
	chunked bool
	// comment and data choose what a heartbeat consists of.
	comment, data bool
}

var _ fanout.Framing = sseFraming{}

// AppendEntry appends one event.
func (f sseFraming) AppendEntry(dst []byte, _ string, e fanout.Entry) []byte {
	var buf [48]byte
	id := appendID(buf[:0], e.ID)
	body := oneLine(e.Body)
	dst = f.openChunk(dst, len("id: \ndata: \n\n")+len(id)+len(body))
	dst = append(dst, "id: "...)
	dst = append(dst, id...)
	dst = append(dst, "\ndata: "...)
	dst = append(dst, body...)
	dst = append(dst, "\n\n"...)
	return f.closeChunk(dst)
}

// AppendGap appends a gap notice: a heartbeat to clients that do not know it.
func (f sseFraming) AppendGap(dst []byte, key string, g fanout.Gap) []byte {
	text := append(make([]byte, 0, 320), "event: gap\ndata: "...)
	text = openHeartbeat(text, key, time.Now())
	text = append(text, `,"gap":`...)
	text = appendGap(text, g)
	text = append(text, "}}\n\n"...)
	return f.appendChunk(dst, text)
}

// AppendHeartbeat appends what the configuration left of a heartbeat.
func (f sseFraming) AppendHeartbeat(dst []byte, key string, now time.Time) []byte {
	text := make([]byte, 0, 256)
	if f.comment {
		text = append(text, ": heartbeat\n"...)
	}
	if f.data {
		text = append(text, "data: "...)
		text = openHeartbeat(text, key, now)
		text = append(text, "}}\n\n"...)
	}
	return f.appendChunk(dst, text)
}

// appendOpening appends what every stream begins with.
func (f sseFraming) appendOpening(dst []byte, retry time.Duration) []byte {
	text := appendRetry(make([]byte, 0, 64), retry)
	text = append(text, ": connected\n"...)
	return f.appendChunk(dst, text)
}

// appendClosing appends the notice before a cut: when to come back, and why.
func (f sseFraming) appendClosing(dst []byte, key string, reason closingReason, retryAfter time.Duration) []byte {
	text := appendRetry(make([]byte, 0, 320), retryAfter)
	text = append(text, "event: closing\ndata: "...)
	text = openHeartbeat(text, key, time.Now())
	text = append(text, `,"closing":`...)
	text = appendClosing(text, reason, retryAfter)
	text = append(text, "}}\n\n"...)
	return f.appendChunk(dst, text)
}

// end is what only a stream that delivered its terminal event ends with.
func (f sseFraming) end() []byte {
	if !f.chunked {
		return nil
	}
	return []byte("0\r\n\r\n")
}

func (f sseFraming) appendChunk(dst, text []byte) []byte {
	if len(text) == 0 { // an empty chunk would be the last one
		return dst
	}
	return f.closeChunk(append(f.openChunk(dst, len(text)), text...))
}

func (f sseFraming) openChunk(dst []byte, size int) []byte {
	if !f.chunked {
		return dst
	}
	return append(strconv.AppendInt(dst, int64(size), 16), '\r', '\n')
}

func (f sseFraming) closeChunk(dst []byte) []byte {
	if !f.chunked {
		return dst
	}
	return append(dst, '\r', '\n')
}

func appendRetry(dst []byte, d time.Duration) []byte {
	dst = append(dst, "retry: "...)
	return append(strconv.AppendInt(dst, d.Milliseconds(), 10), '\n')
}

// openHeartbeat appends a heartbeat up to its payload, which stays open.
func openHeartbeat(dst []byte, key string, now time.Time) []byte {
	dst = append(dst, `{"type":"HEARTBEAT","taskId":`...)
	dst = appendString(dst, key)
	dst = append(dst, `,"eventId":"hb-`...)
	dst = strconv.AppendInt(dst, now.UnixMicro(), 10)
	dst = append(dst, `","createdAt":"`...)
	dst = now.UTC().AppendFormat(dst, wireTime)
	return append(dst, `","payload":{"live":true`...)
}
