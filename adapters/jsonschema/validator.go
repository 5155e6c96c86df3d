package jsonschema

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Config bounds a Validator. The zero value of each field is a default.
type Config struct {
	// SchemaBytes bounds the schema of one action type. Defaults to 64 KiB.
	SchemaBytes int
	// Timeout bounds the check of one payload: schemas and payloads can be made
	// so that it takes for ever. A payload that takes longer does not fit.
	// Defaults to 250ms.
	Timeout time.Duration
	// CacheSize is how many compiled schemas are kept, those used last.
	// Defaults to 256.
	CacheSize int
}

// Validator is an engine.ActionValidator. It is safe for concurrent use; checks
// against the same schema take turns.
type Validator struct {
	cfg     Config
	schemas *cache
}

var _ engine.ActionValidator = (*Validator)(nil)

// New returns a Validator. An error names the field of Config.
func New(cfg Config) (*Validator, error) {
	if cfg.SchemaBytes == 0 {
		cfg.SchemaBytes = 64 << 10
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 250 * time.Millisecond
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 256
	}
	switch {
	case cfg.SchemaBytes < 0:
		return nil, errors.New("jsonschema: Config.SchemaBytes is negative")
	case cfg.Timeout < time.Millisecond:
		return nil, fmt.Errorf("jsonschema: Config.Timeout is %v, shorter than a millisecond", cfg.Timeout)
	case cfg.CacheSize < 0:
		return nil, errors.New("jsonschema: Config.CacheSize is negative")
	}
	return &Validator{cfg: cfg, schemas: newCache(cfg.CacheSize)}, nil
}

// Validate implements engine.ActionValidator: REQUEST_VALIDATION_ERROR with up
// to 50 fields for a payload that does not fit its schema, another error if
// there is something wrong with the schema.
func (v *Validator) Validate(_ context.Context, _ engine.Task, s engine.Suspension, actionType string, payload json.RawMessage) error {
	schemas, err := schemasOf(s.Interaction)
	if err != nil {
		return err
	}
	schema, ok := schemas[actionType]
	if !ok {
		return nil
	}
	compiled, err := v.compiled(schema)
	if err != nil {
		return fmt.Errorf("jsonschema: the schema of %q in suspension %s: %w", actionType, s.SuspendID, err)
	}
	value, problem := decode(payload)
	if problem != nil {
		return unfit([]engine.FieldError{*problem})
	}
	return compiled.check(value, v.cfg.Timeout)
}

// Check reports what is wrong with the schemas in a suspension's interaction:
// that they are no schemas, are too large, refer to something else, or stand
// under an action type that is not allowed.
func (v *Validator) Check(s engine.Suspended) error {
	schemas, err := schemasOf(s.Interaction)
	if err != nil {
		return err
	}
	for actionType, schema := range schemas {
		if !slices.Contains(s.AllowedActions, actionType) {
			return fmt.Errorf("jsonschema: %q has a schema and is not one of the allowed actions", actionType)
		}
		if _, err := v.compiled(schema); err != nil {
			return fmt.Errorf("jsonschema: the schema of %q: %w", actionType, err)
		}
	}
	return nil
}

func (v *Validator) compiled(schema json.RawMessage) (*compiledSchema, error) {
	if len(schema) > v.cfg.SchemaBytes {
		return nil, fmt.Errorf("has %d bytes, more than %d", len(schema), v.cfg.SchemaBytes)
	}
	return v.schemas.get(schema)
}

// schemasOf finds the schemas in an interaction, by action type.
func schemasOf(interaction json.RawMessage) (map[string]json.RawMessage, error) {
	if len(interaction) == 0 {
		return nil, nil
	}
	// Keys are matched as they are: encoding/json would take "Schemas" too.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(interaction, &members); err != nil {
		return nil, fmt.Errorf("jsonschema: the interaction: %w", err)
	}
	raw, ok := members["schemas"]
	if !ok {
		return nil, nil
	}
	var schemas map[string]json.RawMessage
	if err := json.Unmarshal(raw, &schemas); err != nil || bytes.Equal(raw, []byte("null")) {
		return nil, errors.New(`jsonschema: "schemas" in the interaction is not an object`)
	}
	return schemas, nil
}
