//go:build !unix

package bench

import "time"

func cpuTime() time.Duration { return 0 }

func descriptors() int { return 1024 }
