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
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
