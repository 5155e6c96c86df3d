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
