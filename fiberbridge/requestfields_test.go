package fiberbridge

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A refusal says in one sentence what is refused, and lists all that is wrong.
func TestReadFieldsListsEverything(t *testing.T) {
	var name string
	var object json.RawMessage
	fields := []field{nameField("name", &name), objectField("object", &object)}
	if err := readFields([]byte(`{"object":{"a":[1]},"name":"x"}`), fields...); err != nil || name != "x" || string(object) != `{"a":[1]}` {
		t.Errorf("%q, %s, %v", name, object, err)
	}
	var e *engine.Error
	err := readFields([]byte(`{"object":[],"other":1}`), fields...)
	if !errors.As(err, &e) || e.Code != engine.CodeRequestValidation || e.Message != "the request does not fit its schema" || len(e.Fields) != 3 {
		t.Fatalf("%+v", err)
	}
	for i, want := range []string{"object", "other", "name"} {
		if e.Fields[i].Field != want {
			t.Errorf("%d is about %s, want %s", i, e.Fields[i].Field, want)
		}
	}
	err = errUploadTotal(UploadConfig{MaxTotalBytes: 1})
	if !errors.As(err, &e) || e.Code != engine.CodeUploadValidation || e.Message != "the files are not accepted" {
		t.Errorf("%+v", err)
	}
}
