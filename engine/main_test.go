package engine_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/internal/sidebyside"
)

// suiteAtOnce tests of the store suite run: they wait for leases and due times.
const suiteAtOnce = 8

func TestMain(m *testing.M) {
	sidebyside.Tests(suiteAtOnce)
	goleak.VerifyTestMain(m)
}
