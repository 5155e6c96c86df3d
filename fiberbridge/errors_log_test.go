package fiberbridge

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A store that fails is news; a caller who left while it was asked is none.
func TestStoreUnavailableIsLoggedUnlessTheCallerLeft(t *testing.T) {
	for _, tt := range []struct {
		cause  error
		logged bool
	}{
		{errors.New("connection refused"), true},
		{context.DeadlineExceeded, true},
		{context.Canceled, false},
	} {
		var log bytes.Buffer
		b := &Bridge{cfg: Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
		app := fiber.New()
		app.Get("/", func(c *fiber.Ctx) error {
			if e := b.classify(c, engine.NewError(engine.CodeStoreUnavailable, "the store is unavailable").WithCause(tt.cause)); e.Code != engine.CodeStoreUnavailable {
				t.Errorf("%v: %v", tt.cause, e)
			}
			return nil
		})
		res, err := app.Test(httptest.NewRequest(fiber.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if (log.Len() > 0) != tt.logged {
			t.Errorf("%v: logged %q", tt.cause, log.String())
		}
	}
}
