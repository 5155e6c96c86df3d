// Package abuse plays attacks on a server of this machine: what strangers
// without a credential, or one hostile subject, do to be in everybody's way.
// Each attack is bounded in connections, bytes and time.
package abuse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Options say what to attack.
type Options struct {
	// Addr is the server's host:port. It has to be a loopback address.
	Addr string
	// Base is the path before /tasks.
	Base string
	// Subject is the attacker's bearer token where an attack needs one.
	Subject string
	// Short plays with smaller numbers.
	Short bool
}

// Result is what the attacker saw.
type Result struct {
	// Sent is how many requests, connections or frames there were.
	Sent int `json:"sent"`
	// Answers are the answers that were read, by status.
	Answers map[int]int `json:"answers,omitempty"`
	// Failed is how many connections broke or could not be made, which is no
	// fault: the server may defend itself.
	Failed int `json:"failed,omitempty"`
	// Won is what the server let pass that it has to refuse, in words.
	Won []string `json:"won,omitempty"`
}

// Attack is one way to be in everybody's way.
type Attack struct {
	Name, About string
	// Files is the limit of descriptors that the server should run with, 0 for
	// its own.
	Files int
	// Keeps is how many bytes the attacker's own tasks may go on to take in the
	// server, by its quotas.
	Keeps int64

	play func(context.Context, *attacker)
}

// mib is 2^20.
const mib = 1 << 20

// quota is what one subject may keep in the embedded store, by default.
const quota = 128 * mib

// Attacks are all attacks.
var Attacks = []Attack{
	{Name: "idle-connections", About: "connections that say nothing, more than the server has descriptors", Files: 1024, play: idleConnections},
	{Name: "unread-polls", About: "pages of a large log that nobody reads", Keeps: 8 * mib, play: unreadPolls},
	{Name: "large-creates", About: "creates of 1 MiB, each a task", Keeps: quota, play: largeCreates},
	{Name: "repeated-creates", About: "one create of 1 MiB, again and again", Keeps: 2 * mib, play: repeatedCreates},
	{Name: "endless-tasks", About: "tasks of one subject that never end", Keeps: quota, play: endlessTasks},
	{Name: "slow-uploads", About: "uploads that stop before their end and go on at a byte now and then", play: slowUploads},
	{Name: "stranger-bodies", About: "large bodies without credentials", play: strangerBodies},
	{Name: "pings", About: "pings and empty fragments without end", play: pings},
	{Name: "dead-polls", About: "waiting polls whose client sends one more byte and is gone", play: deadPolls},
	{Name: "ready", About: "readiness, asked by strangers without a pause", play: ready},
	{Name: "smuggling", About: "requests in the bodies of others", play: smuggling},
	{Name: "cross-origin", About: "creates and cancels by pages of another site, with credentials that a browser adds", play: crossOrigin},
}

// Busy is a loop that takes a core and sends nothing: what a machine does
// without an attack that is as busy.
var Busy = Attack{Name: "busy-loop", play: func(ctx context.Context, _ *attacker) {
	for ctx.Err() == nil {
		for range 1 << 20 {
		}
	}
}}

// Find returns the attack of a name, nil if there is none.
func Find(name string) *Attack {
	if name == Busy.Name {
		return &Busy
	}
	for i := range Attacks {
		if Attacks[i].Name == name {
			return &Attacks[i]
		}
	}
	return nil
}

// Play plays an attack until ctx ends, closes all of its connections, and tells
// what it saw. An error says that it could not be played.
func (a *Attack) Play(ctx context.Context, o Options) (*Result, error) {
	host, _, err := net.SplitHostPort(o.Addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%q is no loopback address: attacks are for servers on this machine", o.Addr)
	}
	x := &attacker{Options: o, result: Result{Answers: map[int]int{}}}
	a.play(ctx, x)
	x.done()
	return &x.result, x.broken
}

// attacker is an attack that is being played.
type attacker struct {
	Options
	mu      sync.Mutex
	result  Result
	broken  error // the first thing that kept it from being played
	closers []func()
}

// pick returns a number of the attack, or of its short form.
func (a *attacker) pick(full, short int) int {
	if a.Short {
		return short
	}
	return full
}

// onDone has something closed when the attack is over.
func (a *attacker) onDone(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closers = append(a.closers, f)
}

func (a *attacker) done() {
	for _, f := range a.closers {
		f()
	}
}

// fail notes what keeps the attack from being played.
func (a *attacker) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken == nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		a.broken = err
	}
}

// sent counts a request, a connection or a batch of frames.
func (a *attacker) sent(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Sent += n
}

// answered counts an answer; status 0 is a connection without one.
func (a *attacker) answered(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if status == 0 {
		a.result.Failed++
	} else {
		a.result.Answers[status]++
	}
}

// won notes, a few times, what the server should have refused.
func (a *attacker) won(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.result.Won) < 10 {
		a.result.Won = append(a.result.Won, fmt.Sprintf(format, args...))
	}
}

// side runs n loops side by side and waits for them.
func side(n int, loop func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { loop(i) })
	}
	all.Wait()
}
