package fanout

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestShorten cuts a span at every byte: what was taken, the rest, and the
// entries behind the new end are the whole, and the rest ends with an entry.
func TestShorten(t *testing.T) {
	l := &loop{hub: &Hub{cfg: Config{FlushBytes: 1000}}}
	var all []Entry
	for i, body := range []string{"one", "", "three", "four and more"} {
		all = append(all, Entry{ID: ID{7, uint64(i + 1)}, Body: []byte(body), Final: i == 3})
	}
	for _, gap := range []string{"", "GAP\n"} {
		whole := l.frame(textFraming{}, "k", all, false)
		whole.bytes, whole.gap = append([]byte(gap), whole.bytes...), gap != ""
		for taken := range len(whole.bytes) {
			sp := whole
			rest, ok := sp.shorten(taken)
			if !ok {
				if last := bytes.LastIndex(whole.bytes, []byte("E k 7 4")); taken <= last {
					t.Errorf("taken %d of %d: kept, the last entry begins at %d", taken, len(whole.bytes), last)
				}
				continue
			}
			had := string(whole.bytes[:taken]) + string(rest)
			behind := l.frame(textFraming{}, "k", all[sp.end.Ordinal:], false)
			if had+string(behind.bytes) != string(whole.bytes) || sp.over || !sp.full || sp.end.Millis != 7 ||
				!strings.HasSuffix(had, "\n") || len(rest) > len(gap)+30 {
				t.Errorf("taken %d: rest %q, goes on after %v", taken, rest, sp.end)
			}
		}
	}
	one := l.frame(textFraming{}, "k", all[:1], false)
	if _, ok := one.shorten(3); ok || one.marks != nil {
		t.Error("cut within the only entry")
	}
}

// TestParkedOutletHoldsPartOfOneEntry: whatever their number and wherever they
// stand, subscribers that take nothing hold no spans.
func TestParkedOutletHoldsPartOfOneEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Loops: 1}, src)
		defer closeHub(t, h)
		src.append("k", 400, 300, false)
		var pipes []*pipe
		for i := range 300 {
			p := attach(h, 40+i*7, OutletConfig{})
			at := src.log("k").all[i].ID
			p.out.Follow("k", at, opening("k", at))
			pipes = append(pipes, p)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for i, p := range pipes {
			if r := p.out.rest; r == nil || cap(r.tail) > 512 {
				t.Fatalf("outlet %d holds %+v", i, r)
			}
		}
		src.append("k", 1, 10, true)
		for _, p := range pipes {
			p.open(-1)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for i, p := range pipes {
			if r := mustParse(t, p).keys["k"]; len(r.had) != 400-i || !r.over {
				t.Fatalf("outlet %d has %d entries, over %v", i, len(r.had), r.over)
			}
		}
	})
}
