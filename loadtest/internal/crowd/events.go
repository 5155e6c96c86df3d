//go:build linux

package crowd

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/wire"
)

// block takes one block of an event stream.
func (s *sub) block(b *wire.Block) bool {
	if b.Retry >= 0 {
		s.retry = b.Retry
	}
	switch {
	case b.Data == nil:
	case b.ID != nil:
		s.event(b.Data, b.ID)
	default:
		s.notice(b.Data)
	}
	return s.fd >= 0
}

// frame takes one message or control frame of a WebSocket.
func (s *sub) frame(op byte, payload []byte) bool {
	switch op {
	case wire.OpText:
		if bytes.HasPrefix(payload, []byte(`{"type":"TASK_`)) {
			s.event(payload, nil)
		} else {
			s.notice(payload)
		}
	case wire.OpPing:
		s.send(wire.AppendFrame(nil, wire.OpPong, payload))
	case wire.OpClose:
		s.closed(payload)
	}
	return s.fd >= 0
}

func (s *sub) closed(payload []byte) {
	code := uint16(1005)
	if len(payload) >= 2 {
		code = binary.BigEndian.Uint16(payload)
	}
	switch code {
	case 1000, 1005:
		s.closeSeen = true
	case 1012, 1013:
	default:
		s.loop.counters.Refused++
		s.note(fmt.Sprintf("closed with %d %s", code, payload[min(2, len(payload)):]))
	}
	s.send(wire.AppendFrame(nil, wire.OpClose, payload))
	s.ended()
}

// event takes one event. id is the stream's own id, nil on a WebSocket.
func (s *sub) event(body, id []byte) {
	l := s.loop
	l.stats.Deliveries++
	// What another subscriber of the task has had checked already, and what
	// comes when it is expected, needs no more than a comparison.
	if k := s.task.recall(s.log.Next()); k != nil && bytes.Equal(k.body, body) && (id == nil || bytes.Equal(k.id, id)) {
		if s.log.Step(k.millis, &l.counters) {
			s.lastIDFrom(k.id)
			s.advanced(k)
			return
		}
	}
	s.unknown(body, id)
}

// unknown takes an event that nobody has looked at, or that does not come when
// it is expected.
func (s *sub) unknown(body, id []byte) {
	l := s.loop
	var e wire.Event
	if err := wire.ParseEvent(body, &e); err != nil {
		s.corrupt("event", err)
		return
	}
	switch {
	case id != nil && !bytes.Equal(id, e.ID):
		l.counters.Corrupt++
		s.note(fmt.Sprintf("the stream's id %q is not the event's %q", id, e.ID))
		return
	case string(e.TaskID) != s.task.ID:
		l.counters.Corrupt++
		s.note(fmt.Sprintf("event %s is of task %q", e.ID, e.TaskID))
		return
	}
	k := &known{body: body, id: e.ID, payload: e.Payload, millis: e.Millis, ordinal: e.Ordinal, created: e.Created, terminal: e.Terminal()}
	if !s.content(&e) {
		return
	}
	if found := s.log.Event(e.Millis, e.Ordinal, &l.counters); found > check.AcrossRepeat {
		s.note(fmt.Sprintf("event %s: %v", e.ID, found))
	}
	s.task.saw(e.Ordinal)
	s.task.remember(k)
	if s.log.Last() == e.Ordinal {
		s.lastIDFrom(e.ID)
	}
	if k.terminal && s.task.end.Load() == nil {
		how := string(e.Type)
		if how == "TASK_FAILED" {
			how += " " + string(e.Payload[:min(len(e.Payload), 120)])
		}
		s.task.end.CompareAndSwap(nil, &how)
		s.task.ended.Store(true)
	}
	s.advanced(k)
}

// content reports whether an event holds what was emitted, and what its
// like-numbered ones held for others.
func (s *sub) content(e *wire.Event) bool {
	l := s.loop
	if !wire.Valid(e.Payload) {
		l.counters.Corrupt++
		s.note(fmt.Sprintf("event %s is not UTF-8", e.ID))
		return false
	}
	if k := s.task.recall(e.Ordinal); k != nil && (!bytes.Equal(k.id, e.ID) || k.created != e.Created || !bytes.Equal(k.payload, e.Payload)) {
		l.counters.Corrupt++
		s.note(fmt.Sprintf("event %s is not what another subscriber got", e.ID))
		return false
	}
	if string(e.Type) != "TASK_MESSAGE" || s.task.Text == nil {
		return true
	}
	text, plain, err := e.Text()
	if err != nil || !s.task.Text(e.Ordinal, text, plain) {
		l.counters.Corrupt++
		s.note(fmt.Sprintf("event %s has another text than was emitted", e.ID))
		return false
	}
	return true
}

// advanced does what follows an event that was taken.
func (s *sub) advanced(k *known) {
	l := s.loop
	if k.terminal {
		s.log.End()
	}
	if k.created >= s.liveSince {
		l.stats.Live++
		l.interval[s.transport][s.class].Record(l.now - k.created)
	}
	if s.mark != 0 && s.log.Last() >= s.mark {
		s.mark = 0
		l.reached = append(l.reached, l.now)
	}
}

// notice takes a heartbeat, or what else is no event.
func (s *sub) notice(body []byte) {
	l := s.loop
	n, err := wire.ParseNotice(body)
	if err != nil {
		s.corrupt("notice", err)
		return
	}
	switch n.Type {
	case "HEARTBEAT":
	case "SUBSCRIPTION_CONFIRMED":
		if s.state == subscribing {
			s.attached()
		}
	default:
		s.corrupt("message", fmt.Errorf("type %q: %s", n.Type, body[:min(len(body), 200)]))
		return
	}
	if g := n.Gap; g != nil {
		s.log.Gap(g.FirstOrdinal(), g.Reason == "ahead", &l.counters)
	}
	if c := n.Closing; c != nil {
		l.stats.Closings++
		s.retry = max(s.retry, c.RetryAfterMs)
	}
}

// lastIDFrom keeps the cursor without an allocation per event.
func (s *sub) lastIDFrom(id []byte) {
	s.cursorLen = uint8(copy(s.cursor[:], id))
}
