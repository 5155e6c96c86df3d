package localexec_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// Numbers that a float64 cannot hold, or would write in another form.
const exact = `{"id":616581622363398142,"list":[18446744073709551617,{"deep":-9007199254740993}],"price":0.30000000000000004441,"round":1.0,"big":1e400}`

// What a handler decodes without types and passes on keeps its digits, in
// whatever way it goes out.
func TestNumbersKeepTheirDigits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := func(ctx context.Context, run *engine.Run, in any) (map[string]any, error) {
			interaction, err := json.Marshal(in)
			if err != nil {
				return nil, err
			}
			answer, err := run.Suspend(ctx, engine.Suspended{
				SuspendID: "s", Kind: engine.UserActionRequired, ReasonCode: "R", AllowedActions: []string{"approve"}, Interaction: interaction,
			})
			if err != nil {
				return nil, err
			}
			return map[string]any{"in": in, "answer": answer.Payload}, nil
		}
		h := newHost(t, localexec.Config{}, nil,
			localexec.Handle("map", func(_ context.Context, _ *engine.Run, in map[string]any) (map[string]any, error) { return in, nil }),
			localexec.Handle("any", func(_ context.Context, _ *engine.Run, in any) (any, error) { return in, nil }),
			localexec.Handle("raw", func(_ context.Context, _ *engine.Run, in json.RawMessage) (json.RawMessage, error) { return in, nil }),
			localexec.Handle("field", func(_ context.Context, _ *engine.Run, in struct {
				ID   any         `json:"id"`
				List []any       `json:"list"`
				Big  json.Number `json:"big"`
				Rest *float64    `json:"price"`
			}) (any, error) {
				return []any{in.ID, in.List, in.Big, *in.Rest}, nil
			}),
			localexec.Handle("itself", func(ctx context.Context, run *engine.Run, in map[string]any) (empty, error) {
				return empty{}, run.Emit(ctx, engine.Completed{Result: in})
			}),
			localexec.Handle("asked", asked))

		sorted := `{"big":1e400,"id":616581622363398142,"list":[18446744073709551617,{"deep":-9007199254740993}],"price":0.30000000000000004441,"round":1.0}`
		for taskType, want := range map[string]string{
			"map": sorted, "any": sorted, "raw": exact, "itself": sorted,
			"field": `[616581622363398142,[18446744073709551617,{"deep":-9007199254740993}],1e400,0.30000000000000004]`,
		} {
			h.wantLog(h.create(taskType, exact), started, `TASK_COMPLETED {"result":`+want+`}`)
		}

		id := h.create("asked", exact)
		synctest.Wait()
		h.act(id, "approve", exact)
		h.wantLog(id, started,
			`TASK_SUSPENDED {"suspendId":"s","kind":"USER_ACTION_REQUIRED","reasonCode":"R","allowedActions":["approve"],"schemaVersion":1,"interaction":`+sorted+`}`,
			`TASK_ACTION_ACCEPTED {"suspendId":"s","clientActionId":"c","actionType":"approve","acceptedAt":"2000-01-01T00:00:00Z"}`,
			`TASK_COMPLETED {"result":{"answer":`+exact+`,"in":`+sorted+`}}`)
	})
}

// A number is refused where its type cannot hold it, as before.
func TestNumbersThatDoNotFit(t *testing.T) {
	h := newHost(t, localexec.Config{}, nil,
		localexec.Handle("small", func(context.Context, *engine.Run, struct{ N int32 }) (empty, error) { return empty{}, nil }),
		localexec.Handle("text", func(context.Context, *engine.Run, struct{ N string }) (empty, error) { return empty{}, nil }))
	for taskType, input := range map[string]string{"small": `{"N":616581622363398142}`, "text": `{"N":1}`} {
		if _, err := h.tryCreate(taskType, input); engine.CodeOf(err) != engine.CodeInvalidRequest {
			t.Errorf("%s: %v", taskType, err)
		}
	}
	// Admit may be asked with anything; what follows the input is part of it.
	for _, input := range []string{`{"N":1} {}`, `{"N":1}x`, `{"N":1}]`} {
		if slot, err := h.exec.Admit(t.Context(), engine.TaskSpec{Type: "small", Input: []byte(input)}); engine.CodeOf(err) != engine.CodeInvalidRequest {
			t.Errorf("%s: %v, %v", input, slot, err)
		}
	}
}
