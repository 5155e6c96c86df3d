//go:build race

package fiberbridge

const raceEnabled = true
