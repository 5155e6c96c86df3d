package rueidisstore

import (
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A record that was evicted or deleted takes what is left of its task along, as
// soon as somebody notices: a stream of it would be open for ever.
func TestRecordAloneIsGone(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxOpenAge = time.Hour
	b := open(t, cfg)
	for name, notice := range map[string]func(engine.Task){
		"a run that ends": func(task engine.Task) {
			b.append(task.ID, message("2")) // concerns the log alone
			_, err := b.try(task.ID, completed())
			b.wantCode("an end", err, engine.CodeTaskNotFound)
		},
		"maintenance": func(engine.Task) { b.pass(2 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			task := b.create()
			b.append(task.ID, suspension("s", time.Time{}))
			w, stop := b.follow(task.ID, engine.EventID{})
			defer stop()
			b.int("DEL", b.keys.task(task.ID))
			notice(task)
			eventually(t, "the log has vanished", func() bool { return w.losses() > 0 })
			for _, key := range append(b.keys.ofTask(task.ID), b.keys.acts(task.ID)) {
				if b.int("EXISTS", key) == 1 {
					t.Errorf("%s is there", key)
				}
			}
		})
	}
}
