package rueidisstore

import (
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	opener := func(set func(*Config)) func(t *testing.T) engine.Store {
		return func(t *testing.T) engine.Store {
			t.Helper()
			cfg := testConfig(t)
			cfg.CommandTimeout = 30 * time.Second // on a busy machine
			set(&cfg)
			s := open(t, cfg)
			return any(s.Store).(engine.Store)
		}
	}
	enginetest.TestStore(t, opener(func(c *Config) { c.MaxStreamLength = 1 << 20 }), enginetest.StoreOptions{
		Peer: func(t *testing.T, store engine.Store) engine.Store {
			cfg := any(store).(*Store).cfg
			return any(open(t, cfg).Store).(engine.Store)
		},
		OpenShort: func(t *testing.T) (engine.Store, int) {
			return opener(func(c *Config) { c.MaxStreamLength = 10 })(t), 10
		},
		OpenExpiring: opener(func(c *Config) { c.StreamTTL, c.RecordTTL = 500*time.Millisecond, 4*time.Second }),
	})
}
