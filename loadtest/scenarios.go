//go:build linux

package main

import (
	"context"
	"time"
)

// scenario is one way to load a server.
type scenario struct {
	name, about string
	// ownHost says that it needs demo hosts that it starts itself.
	ownHost  bool
	defaults func(*options, explicit)
	run      func(context.Context, *stage) error
}

var scenarios []scenario

// A variable that lists functions which use it would be a cycle.
func init() {
	scenarios = []scenario{
		{
			name: "fan-out", about: "one task, N subscribers, -rate events a second; -yardstick compares with a bare write(2) loop",
			run: fanOut,
		},
		{
			name: "yardstick", about: "fan-out and the bare write(2) loop in turns, and their ratios; 2,000 subscribers, 25/s: one event in flight",
			ownHost: true, defaults: yardstickDefaults, run: fanOut,
		},
		{
			name: "many", about: "N tasks with one subscriber each, -rate events a second in all; 1,000 tasks, 5,000/s",
			defaults: manyDefaults, run: many,
		},
		{
			name: "reconnect-storm", about: "N subscribers are cut, miss -behind events each, and come back within -spread; 2,000 subscribers, 500/s",
			defaults: stormDefaults, run: reconnectStorm,
		},
		{
			name: "slow-readers", about: "fan-out without, then with a share that does not read (-stalled) or reads slowly (-slow); 2,000 subscribers",
			defaults: slowDefaults, run: slowReaders,
		},
		{
			name: "ramp", about: "raises -rate or the subscribers until p99 exceeds -limit; prints the highest good step",
			run: ramp,
		},
		{
			name: "idle", about: "memory, goroutines and descriptors of idle subscribers, then all are gone at once; 15,000 of SSE, then of WebSocket",
			defaults: idleDefaults, run: idle,
		},
		{
			name: "soak", about: "tasks come and go and connections are cut for a long time; 500 subscribers, 50 tasks at once, 1m",
			defaults: soakDefaults, run: soak,
		},
		{
			name: "deploy", about: "two demo hosts on one Redis, one of them restarted under load (-kill: killed); 1,000 subscribers, 20 tasks",
			ownHost: true, defaults: deployDefaults, run: deploy,
		},
		{
			name: "abuse", about: "attacks (-attacks) on a demo host while others work: what these feel of it; 200 subscribers, 20 creators",
			ownHost: true, defaults: abuseDefaults, run: abused,
		},
	}
}

func findScenario(name string) *scenario {
	for i := range scenarios {
		if scenarios[i].name == name {
			return &scenarios[i]
		}
	}
	return nil
}

func yardstickDefaults(o *options, given explicit) {
	o.yardstick = true
	if !given["subscribers"] {
		o.subscribers = 2000
	}
	if !given["rate"] {
		o.rate = 25
	}
	if !given["rounds"] {
		o.rounds = 3
	}
	if !given["duration"] {
		o.duration = 6 * time.Second
	}
}

func stormDefaults(o *options, given explicit) {
	if !given["subscribers"] {
		o.subscribers = 2000
	}
	if !given["rate"] {
		o.rate = 500
	}
}

func slowDefaults(o *options, given explicit) {
	if !given["subscribers"] {
		o.subscribers = 2000
	}
}

func idleDefaults(o *options, given explicit) {
	if !given["subscribers"] {
		o.subscribers = 15_000
	}
	if !given["ws"] {
		o.ws = -1 // one after the other
	}
	if !given["duration"] {
		o.duration = 12 * time.Second // fasthttp's workers outlive their last request by 10 s
	}
}

func soakDefaults(o *options, given explicit) {
	if !given["subscribers"] {
		o.subscribers = 500
	}
	if !given["tasks"] {
		o.tasks = min(50, o.subscribers)
	}
	if !given["duration"] {
		o.duration = time.Minute
	}
	if !given["ws"] {
		o.ws = .5
	}
	if !given["rate"] {
		o.rate = 500
	}
}

func deployDefaults(o *options, given explicit) {
	if !given["tasks"] {
		o.tasks = min(20, o.subscribers)
	}
	if !given["duration"] {
		o.duration = 20 * time.Second
	}
	if !given["ws"] {
		o.ws = .5
	}
	if !given["redis"] {
		o.redis = "start"
	}
	if o.kill && !given["timeout"] {
		o.timeout = time.Minute // until the lease of the killed host has run out
	}
}

func manyDefaults(o *options, given explicit) {
	if !given["subscribers"] {
		o.subscribers = max(o.tasks, 1000)
	}
	if given["tasks"] && !given["subscribers"] {
		o.subscribers = o.tasks
	}
	o.tasks = o.subscribers
	if !given["rate"] {
		o.rate = 5000
	}
}
