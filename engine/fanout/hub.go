package fanout

import "context"

// Hub follows logs and delivers them to outlets. Make one with New; it is safe
// for concurrent use.
type Hub struct{}

// New starts a hub's delivery loops. Close ends them.
func New(cfg Config, src Source) (*Hub, error) { panic("unwritten") }

// Open adds a subscriber's connection. Bytes begin to flow with the first
// Follow or Send. On a closed hub the outlet ends at once with EndHub.
func (h *Hub) Open(sink Sink, cfg OutletConfig) *Outlet { panic("unwritten") }

// Wait returns nil as soon as the log of key has, or may have, an entry after
// the cursor: read it then. It returns ctx's error if that comes first, the
// Source's if the log cannot be followed, and ErrClosed if the hub is closed.
// Many waits on one log cost one Follow.
func (h *Hub) Wait(ctx context.Context, key string, after ID) error { panic("unwritten") }

// Stats counts what the hub holds now.
type Stats struct {
	Outlets, Subscriptions, Logs int
	RingBytes                    int64
}

// Stats returns a count that is exact when nothing is going on.
func (h *Hub) Stats() Stats { panic("unwritten") }

// Close ends every outlet with EndHub, stops following, and waits for the
// loops or for ctx. It may be called again.
func (h *Hub) Close(ctx context.Context) error { panic("unwritten") }

// Outlet is one subscriber's connection: a Sink and any number of cursors.
// Its methods may be called from any goroutine, also from within a Sink's
// methods; none blocks. What they write never lands inside an entry's bytes.
// After the outlet's end they do nothing.
type Outlet struct{}

// Follow adds the log of key from the cursor on: opening first (may be nil),
// then every entry after the cursor. If key is followed already, its cursor
// moves. The cursor must be a position that exists in the log, or zero.
func (o *Outlet) Follow(key string, after ID, opening []byte) { panic("unwritten") }

// Unfollow drops key; farewell, if any, is written after the last of its
// entries. Dropping what is not followed writes nothing.
func (o *Outlet) Unfollow(key string, farewell []byte) { panic("unwritten") }

// Send writes p between entries, in the order of the calls.
func (o *Outlet) Send(p []byte) { panic("unwritten") }

// End drops all cursors, writes farewell after whatever is on its way, and
// then ends the outlet with EndAsked.
func (o *Outlet) End(farewell []byte) { panic("unwritten") }

// Writable tells that a full sink takes bytes again. A false alarm is harmless.
func (o *Outlet) Writable() { panic("unwritten") }

// Gone tells that the peer is gone: the outlet ends with EndGone.
func (o *Outlet) Gone() { panic("unwritten") }
