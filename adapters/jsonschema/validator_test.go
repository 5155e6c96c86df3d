package jsonschema

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func validator(t testing.TB, cfg Config) *Validator {
	t.Helper()
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// asking is a suspension with schemas, given as the value of "schemas".
func asking(schemas string) engine.Suspension {
	return engine.Suspension{Suspended: engine.Suspended{
		SuspendID: "s-1", AllowedActions: []string{"approve", "reject"},
		Interaction: json.RawMessage(`{"question":"?","schemas":` + schemas + `}`),
	}, Open: true}
}

func (v *Validator) ask(t testing.TB, s engine.Suspension, actionType, payload string) error {
	t.Helper()
	return v.Validate(t.Context(), engine.Task{}, s, actionType, json.RawMessage(payload))
}

func fields(err error) string {
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.CodeRequestValidation {
		return fmt.Sprint(err)
	}
	var out []string
	for _, f := range e.Fields {
		out = append(out, f.Field+": "+f.Message)
	}
	return strings.Join(out, "\n")
}

func TestValidate(t *testing.T) {
	v := validator(t, Config{})
	s := asking(`{"approve":{
		"type":"object","required":["limit"],"additionalProperties":false,
		"properties":{
			"limit":{"type":"number","exclusiveMinimum":0,"multipleOf":0.01},
			"mail":{"type":"string","format":"email"},
			"items":{"type":"array","maxItems":2,"items":{"$ref":"#/$defs/item"}},
			"kind":{"enum":["a","b"]}
		},
		"$defs":{"item":{"type":"object","properties":{"n":{"type":"integer"}}}}}}`)
	for payload, want := range map[string]string{
		`{"limit":12.30}`: "<nil>",
		`{"limit":1e2,"mail":"a@b.example","items":[{"n":1},{}],"kind":"b"}`: "<nil>",

		`{}`:                                          "payload: missing property 'limit'",
		`{"limit":"12"}`:                              "payload.limit: got string, want number",
		`{"limit":0}`:                                 "payload.limit: exclusiveMinimum: got 0, want 0",
		`{"limit":1,"more":true}`:                     "payload: additional properties 'more' not allowed",
		`{"limit":1,"mail":"nobody"}`:                 "payload.mail: 'nobody' is not valid email",
		`{"limit":1,"kind":"c"}`:                      "payload.kind: value must be one of 'a', 'b'",
		`{"limit":1,"items":[{},{"n":1.5}]}`:          "payload.items.1.n: got number, want integer",
		`{"limit":1,"items":[1,2,3]}`:                 "payload.items",
		`{"limit":1e999999999}`:                       "payload.limit: is a number out of range",
		`{"limit":1E-401}`:                            "payload.limit: is a number out of range",
		`{"limit":1` + strings.Repeat("0", 500) + `}`: "payload.limit: is a number out of range",
	} {
		if got := fields(v.ask(t, s, "approve", payload)); want == "<nil>" && got != want || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", payload, got, want)
		}
	}
	if err := v.ask(t, s, "reject", `{"anything":1}`); err != nil {
		t.Error(err)
	}
}

// Without schemas every object fits; what only looks like some is the host's
// mistake and is said.
func TestInteractions(t *testing.T) {
	v := validator(t, Config{})
	for interaction, ok := range map[string]bool{
		"": true, `{}`: true, `{"schemas":{}}`: true, `{"Schemas":{"approve":false}}`: true, `{"schemas":{"approve":true}}`: true,
		`{"schemas":{"approve":{}}}`: true, `{"schemas":{"reject":false}}`: true,
		`{"schemas":{"approve":false}}`: false,
		`{"schemas":null}`:              false, `{"schemas":[]}`: false, `{"schemas":1}`: false, `[]`: false,
		`{"schemas":{"approve":1}}`: false, `{"schemas":{"approve":{"type":"nonsense"}}}`: false, `{"schemas":{"approve":{"pattern":"("}}}`: false,
		`{"schemas":{"approve":{"minimum":1e99999}}}`: false,
	} {
		s := engine.Suspension{Suspended: engine.Suspended{AllowedActions: []string{"approve", "reject"}, Interaction: json.RawMessage(interaction)}}
		if err := v.ask(t, s, "approve", `{}`); (err == nil) != ok {
			t.Errorf("%s: %v", interaction, err)
		}
	}
}

func TestCheck(t *testing.T) {
	v := validator(t, Config{SchemaBytes: 200})
	for schemas, ok := range map[string]bool{
		`{}`: true, `{"approve":{"type":"object"},"reject":true}`: true, `{"approve":{"$schema":"http://json-schema.org/draft-07/schema#","if":{}}}`: true,
		`{"dance":{}}`: false, `{"approve":{"type":1}}`: false, `{"reject":"x"}`: false, `[]`: false,
		`{"approve":{"$ref":"https://elsewhere.example/schema"}}`: false, `{"approve":{"$ref":"other.json"}}`: false,
		`{"approve":{"$schema":"https://elsewhere.example/draft"}}`:   false,
		`{"approve":{"$comment":"` + strings.Repeat("x", 300) + `"}}`: false,
	} {
		if err := v.Check(asking(schemas).Suspended); (err == nil) != ok {
			t.Errorf("%s: %v", schemas, err)
		}
	}
}

// A schema reaches nothing but itself: no server, no file.
func TestNothingIsLoaded(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); fmt.Fprint(w, `{}`) }))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	v := validator(t, Config{})
	for _, schema := range []string{
		`{"$ref":"` + server.URL + `"}`, `{"$ref":"file://` + file + `"}`, `{"$schema":"` + server.URL + `"}`, `{"$schema":"file://` + file + `"}`,
		`{"$id":"` + server.URL + `/a","$ref":"b"}`, `{"$dynamicRef":"` + server.URL + `#x"}`, `{"allOf":[{"$ref":"` + server.URL + `"}]}`,
	} {
		err := v.ask(t, asking(`{"approve":`+schema+`}`), "approve", `{}`)
		if err == nil || engine.CodeOf(err) != engine.CodeInternal {
			t.Errorf("%s: %v", schema, err)
		}
	}
	if asked.Load() != 0 {
		t.Error("the server was asked")
	}
}

// Schemas and payloads that are made to take for ever do not.
func TestHostile(t *testing.T) {
	tree, deep := `{"additionalProperties":{"$ref":"#"}}`, strings.Repeat(`{"a":`, 150)+`{}`+strings.Repeat("}", 150)
	v := validator(t, Config{Timeout: intime.For(t, 50*time.Millisecond, func() { // what is good has to be through
		_ = validator(t, Config{Timeout: time.Minute}).ask(t, asking(`{"approve":`+tree+`}`), "approve", deep)
	})})
	var doubling strings.Builder
	doubling.WriteString(`{"$ref":"#/$defs/a0","$defs":{`)
	for i := range 60 {
		fmt.Fprintf(&doubling, `"a%d":{"allOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]},`, i, i+1, i+1)
	}
	doubling.WriteString(`"a60":{"type":"object"}}}`)
	numbers := func(number string) string { return `{"x":[` + strings.Repeat(number+",", 20_000) + `0]}` }
	for name, tc := range map[string]struct {
		schema, payload string
		code            engine.Code // "" for a payload that fits
	}{
		"doubling references":   {doubling.String(), `{}`, engine.CodeRequestValidation},
		"a reference to itself": {`{"$ref":"#"}`, `{}`, engine.CodeRequestValidation},
		"a cycle":               {`{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"}]}}}`, `{}`, engine.CodeRequestValidation},
		"a tree of itself":      {tree, deep, ""},
		"all different":         {`{"properties":{"x":{"uniqueItems":true}}}`, strings.Replace(numbers("1"), "1,1,", "2,1,", 1), engine.CodeRequestValidation},
		"wide numbers":          {`{"properties":{"x":{"items":{"multipleOf":0.3}}}}`, numbers("1e399"), engine.CodeRequestValidation},
		"numbers too wide":      {`{"properties":{"x":{"items":{"multipleOf":0.3}}}}`, numbers("1e999999"), engine.CodeRequestValidation},
		"patterns":              {`{"properties":{"x":{"pattern":"^(a+)+$"}}}`, `{"x":"` + strings.Repeat("a", 100_000) + `!"}`, engine.CodeRequestValidation},
		"many mistakes":         {`{"properties":{"x":{"items":{"type":"string"}}}}`, numbers("1"), engine.CodeRequestValidation},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			err := v.ask(t, asking(`{"approve":`+tc.schema+`}`), "approve", tc.payload)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if engine.CodeOf(err) != tc.code {
				t.Errorf("%v", err)
			}
			var e *engine.Error
			if errors.As(err, &e) && (len(e.Fields) == 0 || len(e.Fields) > maxFields) {
				t.Errorf("%d fields", len(e.Fields))
			}
		})
	}
	// And the next check has all its time.
	if err := v.ask(t, asking(`{"approve":{"$ref":"#/$defs/a","$defs":{"a":{"type":"object"}}}}`), "approve", `{}`); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	v := validator(t, Config{CacheSize: 3})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			s := asking(fmt.Sprintf(`{"approve":{"properties":{"n":{"const":%d}},"required":["n"]}}`, i%7))
			if err := v.ask(t, s, "approve", fmt.Sprintf(`{"n":%d}`, i%7)); err != nil {
				t.Error(err)
			}
			if err := v.ask(t, s, "approve", fmt.Sprintf(`{"n":%d}`, i%7+1)); engine.CodeOf(err) != engine.CodeRequestValidation {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(v.schemas.entries); n != 3 || v.schemas.recent.Len() != 3 {
		t.Errorf("%d schemas are kept", n)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{SchemaBytes: -1}, {Timeout: 5}, {Timeout: -time.Second}, {CacheSize: -1}} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "Config.") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func FuzzValidate(f *testing.F) {
	f.Add(`{"schemas":{"approve":{"type":"object","properties":{"n":{"minimum":3}}}}}`, `{"n":1}`)
	f.Add(`{"schemas":{"approve":{"$ref":"#/$defs/a","$defs":{"a":{"not":{}}}}}}`, `{"a":[1,"x",null,1e5]}`)
	f.Add(`{"schemas":{"approve":{"format":"date-time","unevaluatedProperties":false,"$anchor":"x","$dynamicRef":"#x"}}}`, `{"x":{}}`)
	f.Add(`{"schemas":{"approve":{"oneOf":[{"required":["a"]},{"required":["b"]}],"patternProperties":{"^x":false}}}}`, `{"a":1,"b":2,"xy":3}`)
	v := validator(f, Config{Timeout: 100 * time.Millisecond})
	f.Fuzz(func(t *testing.T, interaction, payload string) {
		var object map[string]any
		if json.Unmarshal([]byte(payload), &object) != nil || object == nil {
			return // the engine lets nothing else through
		}
		s := engine.Suspension{Suspended: engine.Suspended{Interaction: json.RawMessage(interaction)}}
		err := v.Validate(t.Context(), engine.Task{}, s, "approve", json.RawMessage(payload))
		var e *engine.Error
		if !errors.As(err, &e) {
			if err != nil && strings.Contains(err.Error(), "broke") {
				t.Fatal(err)
			}
			return
		}
		for _, field := range e.Fields {
			if !strings.HasPrefix(field.Field, "payload") || field.Message == "" {
				t.Fatalf("%+v", e.Fields)
			}
		}
		if len(e.Fields) == 0 || len(e.Fields) > maxFields {
			t.Fatalf("%d fields", len(e.Fields))
		}
	})
}
