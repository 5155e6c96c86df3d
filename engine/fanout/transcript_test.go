package fanout

import (
	"fmt"
	"strings"
)

// transcript checks what a subscriber got against the rules: whole records,
// per key every entry after the cursor in order and once, gaps announced where
// entries are missing and nowhere else.
type transcript struct {
	keys  map[string]*reading
	beats int
	order []string // control records
}

// reading is a key's cursor as the subscriber sees it.
type reading struct {
	on     bool
	at     ID
	loose  bool // a gap has been announced: the next entry may be further on
	gap    Gap
	over   bool
	had    map[ID]bool
	hidden []Gap // announced
	start  ID
}

// parse reads a whole transcript. whole says that it must end with a record.
func parse(text string, whole bool) (*transcript, error) {
	t := &transcript{keys: map[string]*reading{}}
	for len(text) > 0 {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			if whole {
				return t, fmt.Errorf("ends inside a record: %q", clip(line))
			}
			break
		}
		text = rest
		if err := t.record(line); err != nil {
			return t, fmt.Errorf("%w in %q", err, clip(line))
		}
	}
	return t, nil
}

func (t *transcript) key(k string) *reading {
	r := t.keys[k]
	if r == nil {
		r = &reading{had: map[ID]bool{}}
		t.keys[k] = r
	}
	return r
}

func (t *transcript) record(line string) error {
	if line == "" {
		return fmt.Errorf("empty record")
	}
	var key, reason string
	switch line[0] {
	case 'E':
		var id ID
		var final int
		var body string
		if n, err := fmt.Sscanf(line, "E %s %d %d %d %s", &key, &id.Millis, &id.Ordinal, &final, &body); n < 4 {
			return err
		}
		for j := range len(body) {
			if body[j] != 'a'+byte((id.Ordinal+uint64(j))%26) {
				return fmt.Errorf("torn body")
			}
		}
		return t.key(key).entry(id, final == 1)
	case 'G':
		var g Gap
		if _, err := fmt.Sscanf(line, "G %s %s %d %d %d %d", &key, &reason, &g.After.Millis, &g.After.Ordinal, &g.First.Millis, &g.First.Ordinal); err != nil {
			return err
		}
		g.Reason = GapReason(reason)
		r := t.key(key)
		if !r.on {
			return fmt.Errorf("gap without subscription")
		}
		// Two gaps in a row are one, unless nothing was there behind the first.
		led := r.loose && r.gap.First == ID{} && g.After.Ordinal <= r.at.Ordinal
		if g.After.Ordinal != r.at.Ordinal && !led {
			return fmt.Errorf("gap after %v, cursor at %v", g.After, r.at)
		}
		r.loose, r.gap = true, g
		r.hidden = append(r.hidden, g)
	case 'H':
		t.beats++
	case 'O': // an opening: the cursor is set
		var at ID
		if _, err := fmt.Sscanf(line, "O %s %d %d", &key, &at.Millis, &at.Ordinal); err != nil {
			return err
		}
		*t.key(key) = reading{on: true, at: at, start: at, had: map[ID]bool{}}
	case 'U':
		if _, err := fmt.Sscanf(line, "U %s", &key); err != nil {
			return err
		}
		t.key(key).on = false
	case 'C':
		t.order = append(t.order, line)
	default:
		return fmt.Errorf("no record")
	}
	return nil
}

func (r *reading) entry(id ID, final bool) error {
	switch {
	case !r.on:
		return fmt.Errorf("entry without subscription")
	case r.over:
		return fmt.Errorf("entry after the final one")
	case r.had[id]:
		return fmt.Errorf("repeated")
	case r.loose:
		g := r.gap
		if g.First != (ID{}) && g.First != id {
			return fmt.Errorf("the gap announced %v", g.First)
		}
		if g.Reason == GapTrimmed && id.Ordinal <= r.at.Ordinal+1 {
			return fmt.Errorf("a gap where nothing is missing")
		}
		if g.First == (ID{}) {
			r.hidden[len(r.hidden)-1].First = id
		}
		r.loose = false
	case id.Ordinal != r.at.Ordinal+1:
		return fmt.Errorf("after %v", r.at)
	}
	r.at, r.over = id, final
	r.had[id] = true
	return nil
}

// excused says that a missing entry was announced.
func (r *reading) excused(id ID) bool {
	for _, g := range r.hidden {
		after := g.After.Ordinal
		if g.Reason == GapAhead {
			after = 0
		}
		if id.Ordinal > after && (g.First == ID{} || id.Ordinal < g.First.Ordinal) {
			return true
		}
	}
	return false
}
