package jsonschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	schemas "github.com/santhosh-tekuri/jsonschema/v6"
)

// compiledSchema is a schema that is ready to check payloads.
type compiledSchema struct {
	// mu guards meter, which is one for all checks: the library gives the
	// places that read it no way to tell one check from another.
	mu    sync.Mutex
	meter meter

	schema *schemas.Schema
}

// location is where a schema thinks that it stands; its relative references
// lead there, and to nothing.
const location = "https://schema.invalid/payload"

// vocabulary names the meter among the keywords of a schema.
const vocabulary = "https://schema.invalid/vocabulary/meter"

func compile(schema json.RawMessage) (_ *compiledSchema, err error) {
	defer func() {
		if r := recover(); r != nil { // a defect of the library's must not end the host
			err = fmt.Errorf("the compiler broke: %v", r)
		}
	}()
	document, err := schemas.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	if problem := checkNumbers(document, "schema"); problem != nil {
		return nil, fmt.Errorf("%s %s", problem.Field, problem.Message)
	}
	c := &compiledSchema{}
	compiler := schemas.NewCompiler()
	compiler.DefaultDraft(schemas.Draft2020)
	compiler.UseLoader(noLoader{})
	compiler.AssertFormat()
	compiler.AssertVocabs()
	compiler.RegisterVocabulary(&schemas.Vocabulary{
		URL: vocabulary,
		Compile: func(*schemas.CompilerContext, map[string]any) (schemas.SchemaExt, error) {
			return &c.meter, nil
		},
	})
	if err := compiler.AddResource(location, document); err != nil {
		return nil, err
	}
	if c.schema, err = compiler.Compile(location); err != nil {
		return nil, err
	}
	return c, nil
}

// noLoader keeps schemas from making this process read files or ask servers.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("refers to %.200q, and nothing is loaded", url)
}

// check validates a decoded payload.
func (c *compiledSchema) check(value any, timeout time.Duration) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meter = meter{end: time.Now().Add(timeout)}
	defer func() {
		switch r := recover(); r {
		case nil:
		case errSlow:
			err = unfitSlow()
		default: // a defect of the library's must not end the host
			err = fmt.Errorf("jsonschema: the check broke: %v", r)
		}
	}()
	err = c.schema.Validate(value)
	var invalid *schemas.ValidationError
	if errors.As(err, &invalid) {
		return unfit(fieldsOf(invalid))
	}
	return err
}

var errSlow = errors.New("the check takes too long")

// meter looks at the clock at every step of a check. It stands in each schema
// as if it were one of its keywords, which is the library's only place to stop
// at: by a panic, which check catches.
type meter struct {
	end   time.Time
	steps int
}

// Validate implements the library's SchemaExt.
func (m *meter) Validate(*schemas.ValidatorContext, any) {
	if m.steps++; m.steps%16 == 0 && time.Now().After(m.end) {
		panic(errSlow)
	}
}
