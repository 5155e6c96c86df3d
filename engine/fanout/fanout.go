// Package fanout delivers logs to very many subscribers.
//
// For each followed log it keeps a bounded ring of immutable, encoded entries,
// filled by a Source. A subscriber is a cursor and a Sink: no queue, no copy,
// no goroutine of its own. A few delivery loops write everything between a
// cursor and the head with one write; subscribers that stand at the same
// cursor share the buffer. A slow subscriber costs its cursor and nothing
// more: no entry is dropped, and nobody waits for it.
//
// What an entry means and what a socket is, this package does not know: a
// Source gives entries, a Framing turns them into bytes, a Sink takes bytes.
package fanout

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// ErrNotFound in the chain of an error of Source.Read or Source.Follow says
// that the log is not there and will not come back: its subscribers get
// Sink.Failed at once, where any other error is tried again.
var ErrNotFound = errors.New("fanout: no such log")

// ErrClosed is what Hub.Wait returns on a closed hub.
var ErrClosed = errors.New("fanout: the hub is closed")

// ID is the position of an entry: Ordinal counts from 1 without a hole, Millis
// never goes back. The zero ID stands before the first entry.
type ID struct {
	Millis  uint64
	Ordinal uint64
}

// Entry is one entry of a log. It is immutable.
type Entry struct {
	ID ID
	// Body is the encoded entry, shared by all subscribers.
	Body []byte
	// Final says that nothing will follow.
	Final bool
}

// GapReason says why entries are gone.
type GapReason string

// The reasons of a gap.
const (
	GapTrimmed GapReason = "trimmed"
	GapExpired GapReason = "expired"
	GapAhead   GapReason = "ahead"
)

// Gap tells of entries that a subscriber has not had and that are gone.
type Gap struct {
	Reason GapReason
	// After is the last entry that the subscriber had, zero if none.
	After ID
	// First is the entry that delivery goes on with, zero if there is none yet.
	First ID
}

// Page is an answer of Source.Read.
type Page struct {
	// Gap is not nil if entries between the cursor and Entries are gone.
	Gap *Gap
	// Position is where reading goes on: the cursor that was asked for, or
	// after a gap the position just before Entries[0] (or before what will
	// come next).
	Position ID
	// Entries join on to Position without a hole.
	Entries []Entry
	// More says that the log has entries after these.
	More bool
}

// Source gives the entries of logs, by key. Its methods may be called
// concurrently.
//
// A Read that fails is tried again, with a growing, jittered pause, as long as
// somebody needs it, so that streams stay open through an outage. A Follow
// that fails is tried again up to six times, over about five seconds; then the
// subscribers get Sink.Failed. ErrNotFound is final at once for both.
type Source interface {
	// Read returns up to limit entries after the cursor. It may block; ctx ends
	// when nobody needs the answer any more, and after 30s.
	Read(ctx context.Context, key string, after ID, limit int) (Page, error)
	// Follow pushes every entry after the cursor to feed, in order, until stop
	// is called; stop returns when no call to feed is under way. Follow may
	// block, and may call feed before it returns. ctx lives until nobody
	// follows the log any more.
	Follow(ctx context.Context, key string, after ID, feed Feed) (stop func(), err error)
}

// Feed takes what a Source pushes. One call at a time per Follow. The calls
// return at once and never call the Source.
type Feed interface {
	// Push hands over the next entries.
	Push(entries []Entry)
	// Lost says that the log no longer joins on to what was pushed. Whoever
	// stands before the next Push must read.
	Lost()
}

// Framing turns entries into the bytes of a transport. The results of several
// calls may be joined. Implementations are stateless, comparable values (they
// are keys of the shared buffers).
type Framing interface {
	AppendEntry(dst []byte, key string, e Entry) []byte
	AppendGap(dst []byte, key string, g Gap) []byte
	AppendHeartbeat(dst []byte, key string, now time.Time) []byte
}

// Sink is where an Outlet's bytes go: a socket, as its transport sees it. The
// hub calls each Sink from one goroutine at a time, and holds no lock
// meanwhile. No method may block or call the Hub back other than through the
// Outlet's methods.
type Sink interface {
	// TryWrite takes as much of p as fits without waiting. n < len(p) with a
	// nil error means that the sink is full: it must call Outlet.Writable
	// when it takes bytes again. p is shared: it must not be changed, and may
	// be kept only until it has been written. An error ends the outlet with
	// EndGone.
	TryWrite(p []byte) (n int, err error)
	// Finished tells that the last entry of the log was written (or, on a
	// full sink, is the next thing to be). The subscription is already gone.
	Finished(key string)
	// Failed tells that the log of key cannot be read any more and its
	// subscription is gone.
	Failed(key string, err error)
	// Ended is the last call: the outlet is over and its bytes are written, or
	// never will be. The sink lets go of its socket.
	Ended(reason EndReason)
}

// Backlogged is a Sink that buffers out of the hub's sight, as a socket does. A
// peer that takes little at a time may empty that buffer for longer than
// WriteTimeout before the sink is writable again; as long as it shrinks, the
// outlet is not slow.
type Backlogged interface {
	// Backlog is how many bytes the peer has not taken yet; ok is false if the
	// sink cannot tell. It must not block.
	Backlog() (n int, ok bool)
}

// EndReason says why an outlet ended.
type EndReason uint8

// The reasons of an outlet's end.
const (
	// EndAsked: Outlet.End was called, and everything before it is written.
	EndAsked EndReason = iota
	// EndGone: the peer is gone: TryWrite failed or Outlet.Gone was called.
	EndGone
	// EndSlow: the sink, or the peer behind a Backlogged one, took nothing for
	// OutletConfig.WriteTimeout.
	EndSlow
	// EndHub: the hub was closed.
	EndHub
)

// Config tunes a Hub. The zero value of each field is a default.
type Config struct {
	// FlushInterval is the shortest time between two writes to one busy
	// subscriber; an idle one is written to at once. Defaults to 5ms; negative
	// writes always at once.
	FlushInterval time.Duration
	// MaxFlushInterval is how far FlushInterval grows under load. A log that
	// moves on while its subscribers are still being written to rests twice as
	// long as that took: what comes faster goes into larger writes, instead of
	// more of them. Defaults to 32ms, or FlushInterval if that is longer.
	MaxFlushInterval time.Duration
	// Loops is the number of delivery loops. Defaults to GOMAXPROCS.
	Loops int
	// RingBytes bounds the entries kept for one followed log. Defaults to
	// 4 MiB. The newest entry is always kept.
	RingBytes int
	// TotalBytes bounds all rings together. Defaults to 256 MiB. An eighth of it
	// bounds the pages that are read for subscribers before their rings: at that
	// no further read begins until some are written.
	TotalBytes int
	// FlushBytes bounds one write. Defaults to 64 KiB, at least one entry.
	FlushBytes int
	// PageEntries is how many entries are read at once for a subscriber that
	// stands before the ring. Defaults to 256.
	PageEntries int
	// Readers is how many such reads run at once. Defaults to 16.
	Readers int
	// Linger is how long a log is still followed after its last subscriber
	// has left, so that a reconnect finds the ring. Defaults to 2s; negative
	// is not at all.
	Linger time.Duration
	// Logger receives what nobody is returned. Defaults to slog.Default().
	Logger *slog.Logger
}

// OutletConfig describes one subscriber's connection.
type OutletConfig struct {
	// Framing is required.
	Framing Framing
	// Heartbeat is sent after this long without a write, for the key followed
	// last. Zero sends none.
	Heartbeat time.Duration
	// WriteTimeout ends an outlet whose sink is full and takes nothing for
	// this long. Zero never does.
	WriteTimeout time.Duration
}
