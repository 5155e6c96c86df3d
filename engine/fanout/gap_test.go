package fanout

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestTrimmedTwiceUnderAFullSink: the notice of a gap comes with the first
// entry behind it, so that a slow reader never has two of them in a row (parse
// refuses that).
func TestTrimmedTwiceUnderAFullSink(t *testing.T) {
	for cut := range 60 {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			h := mustHub(t, Config{RingBytes: 1, FlushBytes: 100, PageEntries: 4}, src)
			defer closeHub(t, h)
			src.append("k", 100, 30, false)
			src.trim("k", 80)
			open := opening("k", src.log("k").all[9].ID)
			p := attach(h, len(open)+cut, OutletConfig{})
			p.out.Follow("k", src.log("k").all[9].ID, open)
			time.Sleep(time.Second)
			src.trim("k", 60)
			time.Sleep(time.Second)
			p.open(40)
			time.Sleep(time.Second)
			src.trim("k", 30)
			time.Sleep(time.Second)
			p.open(-1)
			src.append("k", 1, 30, true)
			time.Sleep(5 * time.Second)
			synctest.Wait()
			r := mustParse(t, p).keys["k"]
			if n := len(r.hidden); n == 0 || !r.over {
				t.Fatalf("cut %d: %d gaps, %d entries, over %v", cut, n, len(r.had), r.over)
			}
		})
	}
}

// TestGapsOfManyKeysThatDoNotFitOneWrite: a notice that was put off, since the
// write was full, is made up for.
func TestGapsOfManyKeysThatDoNotFitOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{RingBytes: 1, FlushBytes: 64, Loops: 1}, src)
		defer closeHub(t, h)
		for i := range 8 {
			src.append(fmt.Sprint("k", i), 20, 30, false)
			src.trim(fmt.Sprint("k", i), 10)
		}
		p := attach(h, -1, OutletConfig{})
		for i := range 8 {
			key := fmt.Sprint("k", i)
			p.out.Follow(key, ID{}, opening(key, ID{}))
		}
		time.Sleep(5 * time.Second)
		for i := range 8 {
			src.append(fmt.Sprint("k", i), 1, 30, true)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for key, r := range mustParse(t, p).keys {
			if len(r.hidden) != 1 || len(r.had) != 11 || !r.over {
				t.Errorf("%s: %d gaps, %d entries, over %v", key, len(r.hidden), len(r.had), r.over)
			}
		}
	})
}
