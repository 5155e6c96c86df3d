package engine_test

import (
	"context"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// hangingLookup is a store whose Lookup waits until it is let go.
type hangingLookup struct {
	*memstore.Store
	letGo chan struct{}
}

func (h hangingLookup) Lookup(ctx context.Context, owner, clientRequestID string) (engine.Task, error) {
	<-h.letGo
	return h.Store.Lookup(ctx, owner, clientRequestID)
}

// A transport that bounds how many large requests are worked on at once hears that
// the work is done while the store still has to answer.
func TestComparedBeforeTheStoreIsAsked(t *testing.T) {
	mem, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	store := hangingLookup{mem, make(chan struct{})}
	e, err := engine.New(engine.Config{Store: store, Ownership: engine.OwnerOnly()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	c, err := e.AdmitCreate(t.Context(), alice, engine.CreateHead{})
	if err != nil {
		t.Fatal(err)
	}
	compared, done := make(chan struct{}), make(chan error, 1)
	c.Compared = func() { close(compared) }
	go func() {
		_, err := c.Create(t.Context(), request("compared"))
		done <- err
	}()
	<-compared
	close(store.letGo)
	if err := <-done; engine.CodeOf(err) != engine.CodeTaskSubmission { // it has no executor
		t.Errorf("got %v, want TASK_SUBMISSION_ERROR", err)
	}
}
