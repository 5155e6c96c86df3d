package conformance_test

import (
	"encoding/json"
	"testing"
)

func TestTaskTypesTellTheirStory(t *testing.T) {
	for _, tc := range []struct {
		kind, input string
		types       []string
		end         string
	}{
		{"greet", `{"name":"Ada"}`, []string{"TASK_STARTED", "TASK_PROGRESS", "TASK_PROGRESS", "TASK_PROGRESS", "TASK_COMPLETED"}, ""},
		{"tokens", `{"count":2,"intervalMs":1,"size":9}`, []string{"TASK_STARTED", "TASK_MESSAGE", "TASK_MESSAGE", "TASK_COMPLETED"}, `{"result":{"tokens":2}}`},
		{"tokens", `{"count":0}`, []string{"TASK_STARTED", "TASK_COMPLETED"}, `{"result":{"tokens":0}}`},
		{"fail", `{"code":"NO_PAPER","message":"out of paper","retryable":true,"afterSteps":2}`, []string{"TASK_STARTED", "TASK_PROGRESS", "TASK_PROGRESS", "TASK_FAILED"}, `{"code":"NO_PAPER","message":"out of paper","retryable":true}`},
		{"fail", `{"code":"X","message":"y","retryable":false,"afterSteps":0,"ignored":[1]}`, []string{"TASK_STARTED", "TASK_FAILED"}, `{"code":"X","message":"y","retryable":false}`},
	} {
		t.Run(tc.kind+tc.input, func(t *testing.T) {
			_, log := connect(t).Finished(tc.kind, tc.input)
			var types []string
			for _, e := range log {
				types = append(types, e.Type)
			}
			got, _ := json.Marshal(types)
			want, _ := json.Marshal(tc.types)
			if string(got) != string(want) {
				t.Errorf("%s, want %s", got, want)
			}
			if end := string(log[len(log)-1].Payload); tc.end != "" && end != tc.end {
				t.Errorf("ended with %s, want %s", end, tc.end)
			}
		})
	}
}

func TestTokensAreNotRolledUp(t *testing.T) {
	_, log := connect(t).Finished("tokens", `{"count":50,"intervalMs":0,"size":33}`)
	for _, e := range log[1 : len(log)-1] {
		var p struct{ Message string }
		if err := json.Unmarshal(e.Payload, &p); err != nil || len(p.Message) != 33 {
			t.Errorf("%s: %s", e.EventID, e.Payload)
		}
	}
}
