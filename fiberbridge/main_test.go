package fiberbridge_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/internal/sidebyside"
)

// waitingTests run at once: what is parallel here spends its time waiting for
// deadlines, not on a processor.
const waitingTests = 8

func TestMain(m *testing.M) {
	sidebyside.Tests(waitingTests)
	goleak.VerifyTestMain(m,
		// What Fiber and fasthttp start once and never end: the logger's clock,
		// the compressors, the Date header's clock.
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/middleware/logger.New.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp/stackless.funcWorker"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// The cleaner of a server's worker pool looks up every ten seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		// The cleaner of app.Static's files.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*inMemoryCacheManager).handleCleanCache"),
	)
}
