package engine

import (
	"strings"
	"time"
	"unicode/utf8"
)

// rollUp gathers what Run.Text gets between two events of text. All of it is
// guarded by Run.mu.
type rollUp struct {
	// buf is text that is not queued yet. Its end may be the beginning of a
	// character whose rest is still to come.
	buf []byte
	// sent is when text was last queued.
	sent time.Time
	// timer ends a roll-up; nil while none is under way.
	timer *time.Timer
}

// messageFrame is what a Message payload has around its text.
const messageFrame = len(`{"message":""}`)

// maxEscape is how many bytes one byte of text may take in JSON: \u0001.
const maxEscape = 6

// textBytes bounds the text of one event: by RollUpBytes, and so that its
// payload is within the limit whatever is in it. It is never less than the
// longest character.
func (m *Emitter) textBytes() int {
	return max(min(m.emit.RollUpBytes, (m.limits.PayloadBytes-messageFrame)/maxEscape), utf8.UTFMax)
}

// addText takes a piece of at most textBytes. Text leaves at once after a
// pause; otherwise the pause is waited for.
func (r *Run) addText(piece string) {
	t := &r.text
	if len(t.buf)+len(piece) > r.em.textBytes() {
		r.queueText(false)
	}
	t.buf = append(t.buf, piece...)
	since := time.Since(t.sent)
	switch {
	case t.sent.IsZero(), since >= r.em.emit.RollUp, len(t.buf) >= r.em.textBytes():
		r.queueText(false)
	case t.timer == nil:
		t.timer = time.AfterFunc(r.em.emit.RollUp-since, r.textDue)
	}
}

// textDue is the timer's.
func (r *Run) textDue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queueText(false)
}

// endText queues all text there is, since something else comes after it: a
// character that was not finished by now never will be.
func (r *Run) endText() { r.queueText(true) }

// queueText makes an event of the gathered text, up to the last whole
// character, or all of it.
func (r *Run) queueText(all bool) {
	t := &r.text
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	n := len(t.buf)
	if !all {
		n = wholeRunes(t.buf)
	}
	if n == 0 {
		return
	}
	text := strings.ToValidUTF8(string(t.buf[:n]), "\uFFFD")
	t.buf = append(t.buf[:0], t.buf[n:]...)
	t.sent = time.Now()
	if err := r.refusal(TypeMessage); err != nil {
		r.lose(err)
		return
	}
	d, err := r.em.draft(Message{Text: text})
	if err != nil {
		r.lose(err)
		return
	}
	r.enqueue(item{draft: d})
}

// wholeRunes is the length of b without the character that its end breaks off.
func wholeRunes(b []byte) int {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return i
			}
			break
		}
	}
	return len(b)
}
