package bench

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

var (
	compare = flag.Bool("compare", false, "measure in full and hold the comparisons to their targets")
	rate    = flag.Int("rate", 30_000, "appends per second of TestTail")
	tasks   = flag.String("tasks", "1,100,1000,10000", "how many tasks TestTail follows")
)

func TestMain(m *testing.M) {
	if os.Getenv(followerEnv) != "" {
		if err := serveFollower(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "follower:", err)
			os.Exit(1)
		}
		return
	}
	if serveChild() {
		return
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(
			// What fasthttp starts and ends late or never: the Date header's
			// clock, the cleaner of a server's worker pool.
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
