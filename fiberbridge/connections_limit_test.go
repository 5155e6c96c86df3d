package fiberbridge

import "testing"

// Some descriptors are left for everything else, and some connections for
// everything but streams.
func TestLimitsFollowTheDescriptors(t *testing.T) {
	for _, c := range []struct{ descriptors, reserve, connections, streams int }{
		{512, 0, 448, 416},
		{1000, 0, 900, 850},
		{1024, 0, 922, 871},
		{20_000, 0, 18_000, 17_000},
		{1024, 500, 524, 473},
		{1024, 5000, 512, 461},
		{32, 0, 16, 1},
	} {
		connections, streams := connectionLimit(c.descriptors, c.reserve), streamLimit(c.descriptors, c.reserve)
		if connections != c.connections || streams != c.streams {
			t.Errorf("of %d descriptors, %d reserved: %d connections, %d streams, want %d and %d",
				c.descriptors, c.reserve, connections, streams, c.connections, c.streams)
		}
	}
	cfg := Config{}.withDefaults()
	if cfg.Streams.Max != cfg.defaultStreamLimit() || cfg.Streams.Max < 1 {
		t.Errorf("%d streams by default", cfg.Streams.Max)
	}
}
