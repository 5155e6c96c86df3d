package engine

import (
	"bytes"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// What a TASK_MESSAGE looks like around its text, as AppendJSON and
// EncodePayload write it. One in another form (EmitRaw takes any order of the
// members) is not merged.
var (
	messageHead = []byte(`{"type":"TASK_MESSAGE",`)
	messageText = []byte(`,"payload":{"message":"`)
	messageEnds = [][]byte{
		[]byte(`"}}`),
		[]byte(`","level":"info"}}`),
		[]byte(`","level":"warning"}}`),
		[]byte(`","level":"debug"}}`),
	}
)

// Merge implements fanout.Merger: adjacent TASK_MESSAGE events of equal level
// become one, with the id and the time of the last of them, whose text is
// theirs in a row.
func (s source) Merge(entries []fanout.Entry, room int) (fanout.Entry, int) {
	first := cutMessage(entries[0].Body)
	if first.text == nil {
		return entries[0], 1
	}
	n, last := 1, first
	size := len(first.text)
	for n < len(entries) {
		next := cutMessage(entries[n].Body)
		frame := len(next.head) + len(next.end)
		if next.text == nil || !bytes.Equal(next.end, first.end) || splitsPair(last.text, next.text) ||
			frame+size+len(next.text) > room || messageFrame+len(`,"level":"warning"`)+size+len(next.text) > s.e.cfg.Limits.PayloadBytes {
			break
		}
		size += len(next.text)
		last = next
		n++
	}
	if n == 1 {
		return entries[0], 1
	}
	body := append(make([]byte, 0, len(last.head)+size+len(last.end)), last.head...)
	for i := range entries[:n] {
		body = append(body, cutMessage(entries[i].Body).text...)
	}
	return fanout.Entry{ID: entries[n-1].ID, Body: append(body, last.end...)}, n
}

// message is an encoded TASK_MESSAGE in three parts.
type message struct {
	head []byte
	text []byte // the JSON string of its text, without the quotes; nil if it is none
	end  []byte // which tells the level
}

// cutMessage finds the text in an encoded event.
func cutMessage(body []byte) (m message) {
	if !bytes.HasPrefix(body, messageHead) {
		return message{}
	}
	// Before the payload there are ids and a time, none of which has a quote
	// or brace in it: the first place is the right one.
	at := bytes.Index(body, messageText)
	if at < 0 {
		return message{}
	}
	at += len(messageText)
	quote := endOfString(body, at-1) - 1
	for _, end := range messageEnds {
		if bytes.Equal(body[quote:], end) {
			return message{head: body[:at], text: body[at:quote:quote], end: body[quote:]}
		}
	}
	return message{}
}

// splitsPair says that a ends with one half of a surrogate pair and b begins
// with the other (RFC 8259, section 7): each by itself is an invalid character,
// and together they would be a valid one that nobody emitted.
func splitsPair(a, b []byte) bool {
	return len(a) >= 6 && len(b) >= 6 && surrogate(a[len(a)-6:]) && surrogate(b)
}

func surrogate(b []byte) bool {
	return b[0] == '\\' && b[1] == 'u' && b[2]|0x20 == 'd' && (b[3] == '8' || b[3] == '9' || b[3]|0x20 >= 'a' && b[3]|0x20 <= 'f')
}
