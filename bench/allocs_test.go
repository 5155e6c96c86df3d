package bench

import "runtime"

// allocRounds is how many rounds allocs/round is counted over.
const allocRounds = 50

// allocated is how many objects this process allocates each time that do runs.
// ReportAllocs rounds down, and over as many rounds as time allows: what grows
// with their number would look like a change of the code when only the speed
// changed.
func allocated(rounds int, do func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		do()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(rounds)
}
