package memstore

import (
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSmoke(t *testing.T) {
	s := open(t, Config{})
	ctx := t.Context()
	task, created, err := s.Create(ctx, engine.Task{Owner: "ann", ClientRequestID: "1", Status: engine.StatusAccepted})
	if err != nil || !created {
		t.Fatal(task, created, err)
	}
	ids, err := s.Append(ctx, engine.Append{TaskID: task.ID, Token: "a", Events: []engine.Draft{{Type: engine.TypeStarted, Payload: []byte(`{}`)}}})
	if err != nil || len(ids) != 1 || ids[0].Ordinal != 1 {
		t.Fatal(ids, err)
	}
	p, err := s.Read(ctx, task.ID, engine.EventID{}, 10)
	if err != nil || len(p.Events) != 1 {
		t.Fatal(p, err)
	}
}
