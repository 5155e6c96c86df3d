package fiberbridge_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Mount tells, once, of settings of the app that leave a way to be in
// everybody's way, and names the field.
func TestMountTellsOfTheHostsSettings(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*hostOptions)
		want   []string // of one line; nil for silence
	}{
		{"safe", func(*hostOptions) {}, nil},
		{"no ReadTimeout", func(o *hostOptions) { o.fiber.ReadTimeout = 0 }, []string{"fiber.Config.ReadTimeout", "app.Server().ReadTimeout"}},
		{"no ReadTimeout, on the app", func(o *hostOptions) { o.fiber.ReadTimeout, o.noGroup = 0, true }, []string{"fiber.Config.ReadTimeout"}},
		{"no ReadTimeout, no create", func(o *hostOptions) { o.fiber.ReadTimeout, o.bridge.Routes.Create = 0, "-" }, []string{"fiber.Config.ReadTimeout"}},
		{"a WriteTimeout", func(o *hostOptions) { o.fiber.WriteTimeout = time.Minute }, nil},
		{"a short WriteTimeout", func(o *hostOptions) { o.fiber.WriteTimeout = 10 }, []string{"fiber.Config.WriteTimeout", "writeTimeout=10ns"}},
		{"little Concurrency", func(o *hostOptions) { o.fiber.Concurrency, o.bridge.Streams.Max = 100, 100 },
			[]string{"fiber.Config.Concurrency", "fiberbridge.Config.Streams.Max", "concurrency=100", "maxStreams=100"}},
		{"Concurrency above all streams", func(o *hostOptions) { o.fiber.Concurrency, o.bridge.Streams.Max = 100, 90 }, nil},
		{"Fiber's Concurrency", func(o *hostOptions) { o.bridge.Streams.Max = 1 << 20 }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log lockedBuffer
			h := newHTTPHost(t, func(o *hostOptions) {
				o.fiber = streaming
				o.fiber.ReadTimeout = 10 * time.Second
				o.bridge.Logger = slog.New(slog.NewTextHandler(&log, nil))
				tt.change(o)
			})
			if err := h.bridge.Mount(h.app.Group("/again")); err != nil {
				t.Fatal(err)
			}
			lines := strings.Count(log.String(), "level=WARN")
			if len(tt.want) == 0 && lines == 0 {
				return
			}
			if lines != 1 {
				t.Fatal(log.String())
			}
			for _, want := range tt.want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("%q is not in %s", want, log.String())
				}
			}
		})
	}
}
