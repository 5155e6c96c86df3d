package fiberbridge

import (
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// wsFraming writes a log as WebSocket text frames, one event each.
type wsFraming struct{}

var _ fanout.Framing = wsFraming{}

// AppendEntry appends one event.
func (wsFraming) AppendEntry(dst []byte, _ string, e fanout.Entry) []byte {
	return wsproto.AppendText(dst, validText(e.Body))
}

// AppendGap appends a gap notice: a heartbeat to clients that do not know it.
func (wsFraming) AppendGap(dst []byte, key string, g fanout.Gap) []byte {
	text := openWSHeartbeat(make([]byte, 0, 256), key)
	text = append(text, `,"gap":`...)
	text = appendGap(text, g)
	return wsproto.AppendText(dst, append(text, '}'))
}

// AppendHeartbeat appends a heartbeat.
func (wsFraming) AppendHeartbeat(dst []byte, key string, _ time.Time) []byte {
	return wsproto.AppendText(dst, append(openWSHeartbeat(make([]byte, 0, 128), key), '}'))
}

// appendClosing appends the notice before a cut.
func (wsFraming) appendClosing(dst []byte, key string, reason closingReason, retryAfter time.Duration) []byte {
	text := openWSHeartbeat(make([]byte, 0, 256), key)
	text = append(text, `,"closing":`...)
	text = appendClosing(text, reason, retryAfter)
	return wsproto.AppendText(dst, append(text, '}'))
}

// openWSHeartbeat appends a heartbeat whose object stays open. Before the
// first subscription there is no task to name.
func openWSHeartbeat(dst []byte, key string) []byte {
	dst = append(dst, `{"type":"HEARTBEAT"`...)
	if key != "" {
		dst = append(dst, `,"taskId":`...)
		dst = appendString(dst, key)
	}
	return append(dst, `,"live":true`...)
}

// appendConfirmed appends SUBSCRIPTION_CONFIRMED. cursor is as the client sent
// it, nil if it sent none.
func appendConfirmed(dst []byte, taskID string, cursor *string, gap *engine.Gap) []byte {
	text := append(make([]byte, 0, 320), `{"type":"SUBSCRIPTION_CONFIRMED","taskId":`...)
	text = appendString(text, taskID)
	text = append(text, `,"replayStartedAfterEventId":`...)
	if cursor == nil {
		text = append(text, "null"...)
	} else {
		text = appendString(text, *cursor)
	}
	text = append(text, `,"live":true`...)
	if gap != nil {
		text = append(text, `,"gap":`...)
		text = appendGap(text, fanoutGap(*gap))
	}
	return wsproto.AppendText(dst, append(text, '}'))
}

// appendRejected appends SUBSCRIPTION_REJECTED.
func appendRejected(dst []byte, taskID string, err *engine.Error) []byte {
	text := append(make([]byte, 0, 256), `{"type":"SUBSCRIPTION_REJECTED","taskId":`...)
	text = appendString(text, taskID)
	text = append(text, `,"code":`...)
	text = appendString(text, string(err.Code))
	text = append(text, `,"message":`...)
	text = appendString(text, err.Message)
	return wsproto.AppendText(dst, append(text, '}'))
}

// Reasons of SUBSCRIPTION_ENDED.
const (
	endedTerminal     = "terminal"
	endedUnsubscribed = "unsubscribed"
	endedRevoked      = "auth_revoked"
)

// appendEnded appends SUBSCRIPTION_ENDED.
func appendEnded(dst []byte, taskID, reason string) []byte {
	text := append(make([]byte, 0, 160), `{"type":"SUBSCRIPTION_ENDED","taskId":`...)
	text = appendString(text, taskID)
	text = append(text, `,"reason":`...)
	text = appendString(text, reason)
	return wsproto.AppendText(dst, append(text, '}'))
}

// fanoutGap is g in fanout's terms.
func fanoutGap(g engine.Gap) fanout.Gap {
	return fanout.Gap{Reason: g.Reason, After: fanout.ID(g.After), First: fanout.ID(g.First)}
}
