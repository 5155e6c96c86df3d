package fiberbridge

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestWSCommand(t *testing.T) {
	five := "5-1"
	for _, tc := range []struct {
		frame string
		want  wsCommand
		err   error
	}{
		{`{"action":"subscribe","taskId":"t"}`, wsCommand{actionSubscribe, "t", nil}, nil},
		{`{"action":"subscribe","taskId":"t","lastEventId":null}`, wsCommand{actionSubscribe, "t", nil}, nil},
		{` {"lastEventId":"5-1","taskId":"t","action":"subscribe"} `, wsCommand{actionSubscribe, "t", &five}, nil},
		{`{"action":"unsubscribe","taskId":"t"}`, wsCommand{actionUnsubscribe, "t", nil}, nil},
		{`{"action":"unsubscribe","taskId":"t","lastEventId":"5-1"}`, wsCommand{}, errFrameField},
		{`{"action":"subscribe","taskId":"t","more":1}`, wsCommand{}, errFrameField},
		{`{"action":"subscribe","taskId":"t","taskId":"u"}`, wsCommand{}, errFrameField},
		{`{"action":"subscribe","taskId":"t","lastEventId":null,"lastEventId":"1"}`, wsCommand{}, errFrameField},
		{`{"action":"subscribe","TaskID":"t"}`, wsCommand{}, errFrameField},
		{`{"action":"explode","taskId":"t"}`, wsCommand{}, errFrameAction},
		{`{"action":7,"taskId":"t"}`, wsCommand{}, errFrameAction},
		{`{"taskId":"t"}`, wsCommand{}, errFrameAction},
		{`{"action":"subscribe"}`, wsCommand{}, errFrameTask},
		{`{"action":"subscribe","taskId":""}`, wsCommand{}, errFrameTask},
		{`{"action":"subscribe","taskId":null}`, wsCommand{}, errFrameTask},
		{`{"action":"subscribe","taskId":["t"]}`, wsCommand{}, errFrameTask},
		{`{"action":"subscribe","taskId":"t","lastEventId":5}`, wsCommand{}, errFrameCursor},
		{`{"action":"subscribe","taskId":"t"} {}`, wsCommand{}, errFrameJSON},
		{`{"action":"subscribe","taskId":"t",}`, wsCommand{}, errFrameJSON},
		{`{"action" "subscribe"}`, wsCommand{}, errFrameJSON},
		{`["subscribe"]`, wsCommand{}, errFrameJSON},
		{`"subscribe"`, wsCommand{}, errFrameJSON},
		{`null`, wsCommand{}, errFrameJSON},
		{``, wsCommand{}, errFrameJSON},
		{strings.Repeat("[", 4000), wsCommand{}, errFrameJSON},
		{`{"action":"subscribe","taskId":"t","lastEventId":` + strings.Repeat("[", 4000), wsCommand{}, errFrameCursor},
	} {
		got, err := parseCommand([]byte(tc.frame))
		if !errors.Is(err, tc.err) || got.action != tc.want.action || got.taskID != tc.want.taskID ||
			(got.cursor == nil) != (tc.want.cursor == nil) || got.cursor != nil && *got.cursor != *tc.want.cursor {
			t.Errorf("%.80s: %+v, %v", tc.frame, got, err)
		}
		if err != nil && len(err.Error()) > 123 {
			t.Errorf("%q does not fit a close frame", err)
		}
	}
}

// FuzzWSCommand: what is taken is one JSON object that says exactly this.
func FuzzWSCommand(f *testing.F) {
	for _, seed := range []string{
		`{"action":"subscribe","taskId":"0123456789abcdef","lastEventId":"5-1"}`,
		`{"action":"unsubscribe","taskId":"0123456789abcdef"}`,
		`{"action":"subscribe","taskId":"\u0000\ud800","lastEventId":null}`,
		`{"action":"subscribe","taskId":"t"}}`,
		`{"action":"subscribe",,"taskId":"t"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		cmd, err := parseCommand(frame)
		if err != nil {
			return
		}
		var fields map[string]any
		if json.Unmarshal(frame, &fields) != nil {
			t.Fatalf("taken, but no JSON object: %q", frame)
		}
		if fields["taskId"] != cmd.taskID || cmd.taskID == "" {
			t.Fatalf("task %q of %q", cmd.taskID, frame)
		}
		want := map[wsAction]string{actionSubscribe: "subscribe", actionUnsubscribe: "unsubscribe"}[cmd.action]
		if fields["action"] != want {
			t.Fatalf("action %q of %q", want, frame)
		}
		if cursor, _ := fields["lastEventId"].(string); cmd.cursor != nil && *cmd.cursor != cursor {
			t.Fatalf("cursor %q of %q", *cmd.cursor, frame)
		}
		for name := range fields {
			if name != "action" && name != "taskId" && name != "lastEventId" {
				t.Fatalf("field %q was taken", name)
			}
		}
	})
}
