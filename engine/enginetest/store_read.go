package enginetest

import (
	"fmt"
	"math"
	"strings"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var readTests = []storeTest{
	{"every cursor and limit give the page they should", testPages, false},
	{"pages bounded in bytes", testPagesInBytes, false},
	{"cursors that name no event", testStrangeCursors, false},
	{"an empty log", testEmptyLog, false},
}

func testPages(f *fixture) {
	task := f.create()
	f.append(task.ID, started(), message("1"), message("2"))
	f.messages(task.ID, 2)
	f.append(task.ID, message("3"), message("4"), message("5"), completed())
	all := f.log(task.ID)
	n := len(all)
	for i := 0; i <= n; i++ {
		var cursor engine.EventID
		if i > 0 {
			cursor = all[i-1].ID
		}
		for limit := 1; limit <= n+1; limit++ {
			name := fmt.Sprintf("after event %d, limit %d", i, limit)
			p, err := f.store.Read(f.ctx(), task.ID, cursor, limit)
			if err != nil {
				f.Fatalf("%s: %v", name, err)
			}
			end := min(i+limit, n)
			sameEvents(f.T, name, p.Events, all[i:end])
			if p.First != all[0].ID || p.Last != all[n-1].ID {
				f.Errorf("%s: first %s, last %s", name, p.First, p.Last)
			}
			if p.Found != (i > 0) || p.More != (end < n) || p.Expired {
				f.Errorf("%s: found %v, more %v, expired %v", name, p.Found, p.More, p.Expired)
			}
		}
	}
}

// testPagesInBytes tests the bound of a store that is an engine.BoundedReader, with
// appends of one event and of several, small and large.
func testPagesInBytes(f *fixture) {
	store, ok := f.store.(engine.BoundedReader)
	if !ok {
		f.Skip("pages are not bounded in bytes")
	}
	task := f.create()
	large := func(n int) engine.Draft { return message(strings.Repeat("x", n<<10)) }
	f.append(task.ID, started(), message("1"))
	for range 3 {
		f.append(task.ID, large(30), message("2"), large(10))
		f.append(task.ID, large(100))
		f.messages(task.ID, 40)
	}
	f.append(task.ID, completed())
	all := f.log(task.ID)
	n := len(all)
	for _, from := range []int{0, 1, 2, 3, 4, 5, 10, n / 2, n - 1, n} {
		var cursor engine.EventID
		if from > 0 {
			cursor = all[from-1].ID
		}
		for _, maxBytes := range []int{1, 100, 20 << 10, 64 << 10, 150 << 10, 200 << 10, 1 << 20} {
			for _, limit := range []int{1, 5, 60, 500} {
				name := fmt.Sprintf("after event %d, limit %d, %d bytes", from, limit, maxBytes)
				p, err := store.ReadBytes(f.ctx(), task.ID, cursor, limit, maxBytes)
				if err != nil {
					f.Fatalf("%s: %v", name, err)
				}
				end, sum := from, 0
				for end < n && end-from < limit && sum < maxBytes {
					sum += len(all[end].Payload)
					end++
				}
				sameEvents(f.T, name, p.Events, all[from:end])
				if p.First != all[0].ID || p.Last != all[n-1].ID || p.Found != (from > 0) || p.More != (end < n && from < n) || p.Expired {
					f.Errorf("%s: first %s, last %s, found %v, more %v, expired %v", name, p.First, p.Last, p.Found, p.More, p.Expired)
				}
			}
		}
	}
}

func testStrangeCursors(f *fixture) {
	task := f.create()
	f.append(task.ID, started(), message("1"), message("2"))
	f.append(task.ID, message("3"))
	all := f.log(task.ID)
	first, last := all[0].ID, all[len(all)-1].ID
	for _, cursor := range []engine.EventID{
		{Millis: first.Millis},
		{Millis: first.Millis, Ordinal: math.MaxUint64},
		{Millis: first.Millis - 1, Ordinal: 2},
		{Millis: 0, Ordinal: 7},
		{Millis: 7, Ordinal: 0},
		{Millis: last.Millis, Ordinal: last.Ordinal + 1},
		{Millis: last.Millis + 1},
		{Millis: last.Millis + 1000, Ordinal: 2},
		{Millis: math.MaxUint64, Ordinal: 0},
		{Millis: math.MaxUint64, Ordinal: math.MaxUint64},
	} {
		var want []engine.Event
		for _, ev := range all {
			if ev.ID.Compare(cursor) > 0 {
				want = append(want, ev)
			}
		}
		p, err := f.store.Read(f.ctx(), task.ID, cursor, 100)
		if err != nil {
			f.Errorf("after %s: %v", cursor, err)
			continue
		}
		sameEvents(f.T, "after "+cursor.String(), p.Events, want)
		if p.Found || p.More || p.First != first || p.Last != last {
			f.Errorf("after %s: %+v", cursor, p)
		}
	}
}

func testEmptyLog(f *fixture) {
	task := f.create()
	for _, cursor := range []engine.EventID{{}, {Millis: 5, Ordinal: 5}} {
		p, err := f.store.Read(f.ctx(), task.ID, cursor, 10)
		if err != nil {
			f.Fatal(err)
		}
		if len(p.Events) != 0 || !p.First.IsZero() || !p.Last.IsZero() || p.Found || p.More || p.Expired {
			f.Errorf("after %s: %+v", cursor, p)
		}
	}
}
