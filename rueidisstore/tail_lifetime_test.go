package rueidisstore

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

var tailID = regexp.MustCompile(`(?m)^id=(\d+) .* name=taskbridge-tail `)

// The connection for reading is replaced when it is older than the host wants any
// to be, and its followers notice nothing.
func TestTailKeepsToConnLifetime(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	cfg.Redis.ConnLifetime = 50 * time.Millisecond
	cfg.ProbeInterval = 10 * time.Millisecond
	b := open(t, cfg)
	task := b.create()
	w := &witness{tb: t, taskID: task.ID}
	stop, err := b.Follow(t.Context(), task.ID, engine.EventID{}, w)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	seen := map[string]bool{}
	n := 0
	eventually(t, "five connections, one after the other", func() bool {
		n++
		b.append(task.ID, message(fmt.Sprint(n)))
		list, _ := server.Must("CLIENT", "LIST").(string)
		for _, m := range tailID.FindAllStringSubmatch(list, -1) {
			seen[m[1]] = true
		}
		return len(seen) >= 5
	})
	eventually(t, "every event", func() bool { _, got, lost := w.state(); return got == n && lost == 0 })
}
