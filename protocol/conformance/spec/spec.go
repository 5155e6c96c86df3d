// Package spec holds messages against the protocol: HTTP answers against the
// OpenAPI document, everything else against the JSON Schemas.
package spec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/taskbridge/taskbridge-fiber/protocol"
)

// Protocol is the repo's protocol, compiled. It is safe for concurrent use.
type Protocol struct {
	router  routers.Router
	schemas map[string]*jsonschema.Schema
}

// Load compiles the protocol once per process.
var Load = sync.OnceValues(load)

func load() (*Protocol, error) {
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.PlainBodyDecoder)
	doc, err := openapi3.NewLoader().LoadFromData(protocol.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	router, err := legacy.NewRouter(doc) // validates doc as well
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	p := &Protocol{router: router, schemas: map[string]*jsonschema.Schema{}}

	const base = "https://taskbridge.invalid/"
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	for _, name := range protocol.Schemas() {
		text, err := protocol.Schema(name)
		if err != nil {
			return nil, err
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
		if err := compiler.AddResource(base+name+".json", value); err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
	}
	for _, name := range protocol.Schemas() {
		if p.schemas[name], err = compiler.Compile(base + name + ".json"); err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
	}
	return p, nil
}

// Message checks one JSON message against the schema of that name.
func (p *Protocol) Message(schema string, text []byte) error {
	s := p.schemas[schema]
	if s == nil {
		return fmt.Errorf("no schema %q", schema)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%s: %w in %.200q", schema, err, text)
	}
	if err := s.Validate(value); err != nil {
		return fmt.Errorf("%s: %w in %.400s", schema, err, text)
	}
	return nil
}

// Request checks a request, so that what a host accepts is what the document
// says. body stands for the request's own, which may be gone.
func (p *Protocol) Request(req *http.Request, body []byte) error {
	input, err := p.input(req, body)
	if err != nil {
		return err
	}
	return openapi3filter.ValidateRequest(context.Background(), input)
}

// Answer checks an HTTP answer: the status must be one that the document knows
// for the route; headers and body must be what it says of that status.
func (p *Protocol) Answer(req *http.Request, status int, header http.Header, body []byte) error {
	input, err := p.input(req, nil)
	if err != nil {
		return err
	}
	answer := input.Route.Operation.Responses.Status(status)
	if answer == nil {
		return fmt.Errorf("%s %s: the document knows no status %d (%.200s)", req.Method, req.URL.Path, status, body)
	}
	if len(body) > 0 && (len(answer.Value.Content) == 0 || req.Method == http.MethodHead) {
		return fmt.Errorf("%s %s: a %d with a body: %.200s", req.Method, req.URL.Path, status, body)
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input,
		Status:                 status,
		Header:                 header,
		Body:                   io.NopCloser(bytes.NewReader(body)),
		Options:                input.Options,
	})
	if err != nil {
		return fmt.Errorf("%s %s: %d: %w", req.Method, req.URL.Path, status, err)
	}
	return nil
}

func (p *Protocol) input(req *http.Request, body []byte) (*openapi3filter.RequestValidationInput, error) {
	bare := req.Clone(context.Background())
	bare.URL.Scheme, bare.URL.Host, bare.Host = "", "", ""
	bare.Body = io.NopCloser(bytes.NewReader(body))
	bare.ContentLength = int64(len(body))
	route, params, err := p.router.FindRoute(bare)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s %s is not in the document", req.Method, req.URL.Path), err)
	}
	return &openapi3filter.RequestValidationInput{
		Request: bare, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			MultiError: true, IncludeResponseStatus: true,
			// Whether the credentials are good the host says, not the document.
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		},
	}, nil
}
