// Package sidebyside is for tests that wait for most of their time: of leases,
// heartbeats and servers' starts many can be waited for at once on one processor.
package sidebyside

import (
	"flag"
	"strconv"
)

// Tests has n tests that are parallel run at once, unless -parallel says how
// many. It is called at the beginning of a TestMain, and parses the flags.
func Tests(n int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // outside a test, where the flag is unknown
	}
}
