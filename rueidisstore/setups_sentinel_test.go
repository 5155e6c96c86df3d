package rueidisstore_test

import (
	"testing"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// under is how a store reaches what the Sentinels watch.
func under(w *redistest.Watch) rueidis.ClientOption {
	option := at(w.Addrs()...)
	option.Sentinel.MasterSet = redistest.MasterSet
	return option
}

func TestStoreUnderSentinel(t *testing.T) {
	t.Parallel()
	testStores(t, under(redistest.Sentinel(t)))
}
