package bench

import (
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// ann owns every task of these benchmarks.
var ann = engine.AuthContext{Subject: "ann"}

// marker is in every message of these benchmarks exactly once, and nowhere else
// in what a server writes: counting deliveries is counting this byte.
const marker = '|'

// messageText is 200 bytes, one of them the marker.
var messageText = strings.Repeat("0123456789", 20)[:199] + string(marker)

// messages are n of them.
func messages(n int) []engine.Draft {
	drafts := make([]engine.Draft, n)
	for i := range drafts {
		drafts[i] = engine.Draft{
			Type: engine.TypeMessage, CreatedAt: time.Now().UTC(), Payload: []byte(`{"message":"` + messageText + `"}`),
		}
	}
	return drafts
}
