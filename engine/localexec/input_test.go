package localexec_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

type order struct {
	Name  string    `json:"name"`
	Count int8      `json:"count"`
	Size  *uint16   `json:"size"`
	At    time.Time `json:"at"`
	Lines []struct {
		Price float64 `json:"price"`
	} `json:"lines"`
}

func (o order) Validate() error {
	if o.Count < 0 {
		return errors.New("count must not be negative")
	}
	return nil
}

type byPointer struct{ N int }

func (b *byPointer) Validate() error {
	if b.N > 9 {
		return errors.New("N is above 9")
	}
	return nil
}

type refusing struct{}

func (*refusing) UnmarshalJSON([]byte) error {
	return engine.NewError(engine.CodeInvalidRequest, "not today")
}

func TestInput(t *testing.T) {
	got := make(chan any, 1)
	h := newHost(t, localexec.Config{}, nil,
		localexec.Handle("order", func(_ context.Context, _ *engine.Run, in order) (empty, error) { got <- in; return empty{}, nil }),
		localexec.Handle("pointer", func(_ context.Context, _ *engine.Run, in *byPointer) (empty, error) { got <- in; return empty{}, nil }),
		localexec.Handle("value", func(_ context.Context, _ *engine.Run, in byPointer) (empty, error) { got <- in; return empty{}, nil }),
		localexec.Handle("raw", func(_ context.Context, _ *engine.Run, in json.RawMessage) (empty, error) {
			got <- string(in)
			return empty{}, nil
		}),
		localexec.Handle("refusing", func(context.Context, *engine.Run, refusing) (empty, error) { return empty{}, nil }),
	)
	for _, c := range []struct{ taskType, input, message string }{
		{"nothing", `{}`, "unknown task type"},
		{"order", `{"name":5}`, "input.name: expected a string, got number"},
		{"order", `{"count":"5"}`, "input.count: expected an integer of 8 bits, got string"},
		{"order", `{"count":128}`, "input.count: expected an integer of 8 bits, got number 128"},
		{"order", `{"count":1.5}`, "input.count: expected an integer of 8 bits, got number 1.5"},
		{"order", `{"count":-1}`, "input: count must not be negative"},
		{"order", `{"size":-1}`, "input.size: expected a non-negative integer of 16 bits, got number -1"},
		{"order", `{"lines":{}}`, "input.lines: expected an array, got object"},
		{"order", `{"lines":[{"price":true}]}`, "input.lines.price: expected a number, got bool"},
		{"order", `{"at":"yesterday"}`, "the input does not fit this type of task"},
		{"pointer", `{"N":10}`, "input: N is above 9"},
		{"value", `{"N":10}`, "input: N is above 9"},
		{"refusing", `{}`, "not today"},
	} {
		_, err := h.tryCreate(c.taskType, c.input)
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != engine.CodeInvalidRequest || e.Message != c.message {
			t.Errorf("%s %s: %v, want %q", c.taskType, c.input, err, c.message)
		}
	}

	for _, c := range []struct {
		taskType, input string
		same            func(any) bool
	}{
		{"order", `{"name":"a","count":3,"other":[1]}`, func(v any) bool { o := v.(order); return o.Name == "a" && o.Count == 3 }},
		{"order", ``, func(v any) bool { return v.(order).Name == "" }},
		{"pointer", `{"N":9}`, func(v any) bool { return v.(*byPointer).N == 9 }},
		{"raw", `{"b": 1,"a":"ü"}`, func(v any) bool { return strings.Contains(v.(string), `"ü"`) }},
	} {
		h.create(c.taskType, c.input)
		if v := <-got; !c.same(v) {
			t.Errorf("%s %s became %+v", c.taskType, c.input, v)
		}
	}
}

// Admit may be asked without an engine before it, with anything.
func FuzzAdmit(f *testing.F) {
	for _, s := range []string{``, `null`, `{}`, `[]`, `{"name":"a","count":1}`, `{"lines":[null]}`, "\xff", `{"count":1e99}`} {
		f.Add([]byte(s))
	}
	exec, err := localexec.New(localexec.Config{},
		localexec.Handle("order", func(context.Context, *engine.Run, order) (empty, error) { return empty{}, nil }),
		localexec.Handle("pointer", func(context.Context, *engine.Run, *byPointer) (empty, error) { return empty{}, nil }))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		for _, taskType := range []string{"order", "pointer"} {
			slot, err := exec.Admit(t.Context(), engine.TaskSpec{Type: taskType, Input: input})
			if err == nil {
				slot.Release()
			} else if engine.CodeOf(err) != engine.CodeInvalidRequest {
				t.Errorf("%s %q: %v", taskType, input, err)
			}
		}
	})
}

func TestNewErrors(t *testing.T) {
	ok := localexec.Handle("x", func(context.Context, *engine.Run, empty) (empty, error) { return empty{}, nil })
	for want, c := range map[string]struct {
		cfg  localexec.Config
		opts []localexec.Option
	}{
		"Config.Workers":     {localexec.Config{Workers: -1}, []localexec.Option{ok}},
		"Config.CancelGrace": {localexec.Config{CancelGrace: -1}, []localexec.Option{ok}},
		"Config.RetryAfter":  {localexec.Config{RetryAfter: -1}, []localexec.Option{ok}},
		"no handler":         {},
		"two handlers":       {opts: []localexec.Option{ok, ok}},
		"task type": {opts: []localexec.Option{localexec.Handle("",
			func(context.Context, *engine.Run, empty) (empty, error) { return empty{}, nil })}},
		"Timeout": {opts: []localexec.Option{localexec.Handle("x",
			func(context.Context, *engine.Run, empty) (empty, error) { return empty{}, nil }, localexec.Timeout(0))}},
		"without a function": {opts: []localexec.Option{localexec.Handle[empty, empty]("x", nil)}},
	} {
		if _, err := localexec.New(c.cfg, c.opts...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
}
