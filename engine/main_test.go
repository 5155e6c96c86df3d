package engine_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// suiteAtOnce tests of the store suite run: they wait for leases and due times.
const suiteAtOnce = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", suiteAtOnce); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}
