//go:build linux

package main

import (
	"strings"
	"time"
)

// tokensInput is the input of the demo host's tokens task.
type tokensInput struct {
	Count        int `json:"count"`
	IntervalMs   int `json:"intervalMs"`
	Size         int `json:"size"`
	StartDelayMs int `json:"startDelayMs"`
}

// emission is what one task emits.
type emission struct {
	count    int
	interval time.Duration // whole milliseconds
	size     int
}

// maxRate is how many events a second one task can emit, at an interval of a
// millisecond.
const maxRate = 1000

// plan spreads a rate over tasks, for a time. Intervals are whole
// milliseconds, so the rate that comes out differs a little; rate is that one.
func plan(rate float64, tasks, size int, d time.Duration) (e emission, actual float64) {
	perTask := rate / float64(tasks)
	interval := max(time.Duration(1000/perTask+.5), 1) * time.Millisecond
	return emission{
		count:    max(int(d/interval), 1),
		interval: interval,
		size:     size,
	}, float64(tasks) / interval.Seconds()
}

// passage is what the tokens of the demo host are cut from; token i begins at
// i times its size, modulo the passage.
const passage = "A task is an ordered log of events, and everything else is a way to write to that log or to read it. "

// textCheck returns a check of the texts of a task: the event with ordinal 2
// is the first token. anyText checks lengths only.
func textCheck(size int, anyText bool) func(ordinal uint64, text []byte, plain bool) bool {
	all := strings.Repeat(passage, 1+(len(passage)+size)/len(passage))
	return func(ordinal uint64, text []byte, plain bool) bool {
		if anyText {
			return !plain || len(text) == size
		}
		from := int((ordinal - 2) % uint64(len(passage)) * uint64(size) % uint64(len(passage)))
		return string(text) == all[from:from+size]
	}
}
