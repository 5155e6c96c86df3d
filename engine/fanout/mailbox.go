package fanout

import "sync"

type op uint8

const (
	opOpen op = iota
	opFollow
	opUnfollow
	opSend
	opEnd
	opWritable
	opGone
	opTell
	opRead // a read has ended: flight
)

// command is a call that waits for its loop.
type command struct {
	op     op
	outlet *Outlet
	key    string
	after  ID
	bytes  []byte
	flight *flight
	merged bool // opFollow
	unseen bool // opSend
	tell   func()
}

// mailbox is how other goroutines reach a loop: calls in their order, and
// groups whose log has moved. A loop is woken only when it sleeps.
type mailbox struct {
	wake chan struct{} // holds one signal

	mu       sync.Mutex
	commands []command
	moved    []*group
	asleep   bool
	closing  bool // the loop is to end
	closed   bool // the loop has taken its last letters
}

// post adds a command; false says that the loop has ended.
func (b *mailbox) post(c command) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.commands = append(b.commands, c)
	b.rouse()
	return true
}

// tell adds a group whose log has moved. The caller sees to it that a group is
// not in the box twice.
func (b *mailbox) tell(g *group) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.moved = append(b.moved, g)
	b.rouse()
}

func (b *mailbox) close() {
	b.mu.Lock()
	b.closing = true
	b.rouse()
}

// rouse wakes the loop if it sleeps, and unlocks.
func (b *mailbox) rouse() {
	wake := b.asleep
	b.asleep = false
	b.mu.Unlock()
	if wake {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// take swaps the contents for the two empty slices given. closing says that
// these were the last.
func (b *mailbox) take(commands []command, moved []*group) (_ []command, _ []*group, closing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asleep = false
	commands, b.commands = b.commands, commands
	moved, b.moved = b.moved, moved
	b.closed = b.closing
	return commands, moved, b.closed
}

// sleep reports whether the loop may wait for a signal: there is nothing for
// it, and whatever comes now will wake it.
func (b *mailbox) sleep() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asleep = len(b.commands) == 0 && len(b.moved) == 0 && !b.closing
	return b.asleep
}
