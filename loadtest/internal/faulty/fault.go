package faulty

// Fault is what the server does wrong, at the event in the middle.
type Fault string

// The faults, and the things that look like one and are none.
const (
	None         Fault = "none"
	Drop         Fault = "drop"          // leaves the event out
	Repeat       Fault = "repeat"        // sends it twice
	Swap         Fault = "swap"          // sends it after the next one
	OtherText    Fault = "other-text"    // with another text of the same length
	ShortText    Fault = "short-text"    // with a shorter text
	OtherID      Fault = "other-id"      // SSE: with an id that is not the event's
	OtherTask    Fault = "other-task"    // of another task
	BadJSON      Fault = "bad-json"      // cut off within its JSON
	NotUTF8      Fault = "not-utf8"      // with a byte that is none
	TimeBack     Fault = "time-back"     // with an id whose time goes back
	AfterEnd     Fault = "after-end"     // sends one more after the terminal event
	EarlyEnd     Fault = "early-end"     // ends cleanly there
	SilentTrim   Fault = "silent-trim"   // begins there, and does not say so
	LyingGap     Fault = "lying-gap"     // announces a gap, and begins elsewhere
	NoEnd        Fault = "no-end"        // says nothing from there on
	Refuse       Fault = "refuse"        // 401, close 1008
	BrokenFrame  Fault = "broken-frame"  // a chunk or frame that is none
	OKGap        Fault = "ok-gap"        // announces a gap, truly
	OKCut        Fault = "ok-cut"        // cuts there, and goes on at the cursor
	OKRepeat     Fault = "ok-repeat"     // cuts there, and goes on a little before the cursor
	OKBusy       Fault = "ok-busy"       // 503 for the first connections
	OKCutAtEnd   Fault = "ok-cut-at-end" // cuts behind the terminal event; then 204, 1000
	OKFragments  Fault = "ok-fragments"  // WebSocket: in fragments, with a ping between
	OKHeartbeats Fault = "ok-heartbeats" // with heartbeats, comments and notices between
	OKAhead      Fault = "ok-ahead"      // announces that the log went back
	OKPlain      Fault = "ok-plain"      // SSE: not chunked, to the end of the connection
	OKKeyOrder   Fault = "ok-key-order"  // events with their keys in another order
)
