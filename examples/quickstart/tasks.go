package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// handlers are the task types that this host runs.
func handlers() []localexec.Option {
	return []localexec.Option{
		localexec.Handle("greet", greet),
		localexec.Handle("tokens", tokens),
		localexec.Handle("approval", approval, localexec.Restartable()),
		localexec.Handle("fail", fail),
		localexec.Handle("stall", stall),
	}
}

// The bounds of the inputs.
const (
	maxName         = 200
	maxText         = 1000
	maxCode         = 100
	maxSteps        = 1000
	maxTokens       = 1_000_000
	maxTokenBytes   = 262_000 // with its JSON around it within the library's 256 KiB
	maxDelayMillis  = 3_600_000
	maxExpiryMillis = 86_400_000
)

// greet

type greetInput struct {
	Name string `json:"name"`
}

func (in greetInput) Validate() error { return atMost("name", in.Name, maxName) }

type greetResult struct {
	Greeting string `json:"greeting"`
}

func greet(ctx context.Context, run *engine.Run, in greetInput) (greetResult, error) {
	for _, step := range []engine.Progress{
		{Percent: 25, Stage: "waking up"},
		{Percent: 50, Stage: "finding the words"},
		{Percent: 75, Stage: "clearing the throat"},
	} {
		if err := run.Emit(ctx, step); err != nil {
			return greetResult{}, err
		}
	}
	name := in.Name
	if name == "" {
		name = "world"
	}
	return greetResult{Greeting: "Hello, " + name + "!"}, nil
}

// tokens

type tokensInput struct {
	Count        int  `json:"count"`
	IntervalMs   int  `json:"intervalMs"`
	Size         *int `json:"size"`
	StartDelayMs int  `json:"startDelayMs"`
}

// defaultTokenBytes is the size of a token if the input names none.
const defaultTokenBytes = 8

func (in tokensInput) Validate() error {
	return check(
		within("count", in.Count, 0, maxTokens),
		within("intervalMs", in.IntervalMs, 0, maxDelayMillis),
		within("size", in.size(), 0, maxTokenBytes),
		within("startDelayMs", in.StartDelayMs, 0, maxDelayMillis),
	)
}

func (in tokensInput) size() int {
	if in.Size == nil {
		return defaultTokenBytes
	}
	return *in.Size
}

type tokensResult struct {
	Tokens int `json:"tokens"`
}

func tokens(ctx context.Context, run *engine.Run, in tokensInput) (tokensResult, error) {
	if err := sleepUntil(ctx, time.Now().Add(millis(in.StartDelayMs))); err != nil {
		return tokensResult{}, err
	}
	text := newProse(in.size())
	// Each token has its own time, so that a late one does not delay the rest.
	start, interval := time.Now(), millis(in.IntervalMs)
	for i := range in.Count {
		if err := sleepUntil(ctx, start.Add(time.Duration(i)*interval)); err != nil {
			return tokensResult{}, err
		}
		// Stream and not Text, which would roll adjacent tokens up into one.
		run.Stream(engine.Message{Text: text.token(i)})
	}
	// What was streamed is stored before the result is.
	return tokensResult{Tokens: in.Count}, run.Flush(ctx)
}

// prose cuts tokens of equal size out of a text that repeats, so that the
// tokens of a task read on from one to the next.
type prose struct {
	text string
	size int
}

const passage = "A task is an ordered log of events, and everything else is a way to write to that log or to read it. "

func newProse(size int) prose {
	return prose{text: strings.Repeat(passage, 1+(len(passage)+size)/len(passage)), size: size}
}

// token returns the i-th token: exactly size bytes of ASCII that JSON does not
// escape. It allocates nothing.
func (p prose) token(i int) string {
	from := i * p.size % len(passage)
	return p.text[from : from+p.size]
}

// approval

type approvalInput struct {
	Question    string `json:"question"`
	ExpiresInMs *int   `json:"expiresInMs"`
}

func (in approvalInput) Validate() error {
	if in.ExpiresInMs == nil {
		return atMost("question", in.Question, maxText)
	}
	return check(atMost("question", in.Question, maxText), within("expiresInMs", *in.ExpiresInMs, 1, maxExpiryMillis))
}

type approvalResult struct {
	Decision string          `json:"decision"`
	Payload  json.RawMessage `json:"payload"`
}

// approval does nothing before it asks and nothing that may not be done twice
// after it, so it can be run again from its beginning, by another host if need
// be: Suspend then finds the question, or its answer.
func approval(ctx context.Context, run *engine.Run, in approvalInput) (any, error) {
	question := in.Question
	if question == "" {
		question = "May it go on?"
	}
	interaction, err := json.Marshal(map[string]string{"question": question})
	if err != nil {
		return nil, err
	}
	suspended := engine.Suspended{
		Kind:           engine.UserActionRequired,
		ReasonCode:     "approval_required",
		AllowedActions: []string{"approve", "reject"},
		Interaction:    interaction,
	}
	if in.ExpiresInMs != nil {
		at := time.Now().Add(millis(*in.ExpiresInMs))
		suspended.ExpiresAt = &at
	}
	// Expired, it fails the task with SUSPENSION_EXPIRED.
	answer, err := run.Suspend(ctx, suspended)
	if err != nil {
		return nil, err
	}
	return approvalResult{Decision: answer.ActionType, Payload: answer.Payload}, nil
}

// fail

type failInput struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	Retryable  bool   `json:"retryable"`
	AfterSteps int    `json:"afterSteps"`
}

func (in failInput) Validate() error {
	return check(
		atMost("code", in.Code, maxCode),
		atMost("message", in.Message, maxText),
		within("afterSteps", in.AfterSteps, 0, maxSteps),
	)
}

func fail(ctx context.Context, run *engine.Run, in failInput) (any, error) {
	for step := range in.AfterSteps {
		percent := float64(100 * (step + 1) / (in.AfterSteps + 1))
		if err := run.Progress(ctx, percent, fmt.Sprintf("step %d of %d", step+1, in.AfterSteps)); err != nil {
			return nil, err
		}
	}
	code, message := in.Code, in.Message
	if code == "" {
		code = "DEMO_FAILURE"
	}
	if message == "" {
		message = "failed, as it was asked to"
	}
	return nil, localexec.Fail(code, message, in.Retryable)
}

// stall

func stall(ctx context.Context, _ *engine.Run, _ struct{}) (any, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// sleepUntil waits for a time, or for ctx, whose cause it returns.
func sleepUntil(ctx context.Context, at time.Time) error {
	wait := time.Until(at)
	if wait <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func millis(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// check joins what is wrong with an input into the one line that the client
// gets.
func check(findings ...error) error {
	var wrong []string
	for _, err := range findings {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

func within(field string, value, least, most int) error {
	if value < least || value > most {
		return fmt.Errorf("%s must be between %d and %d", field, least, most)
	}
	return nil
}

func atMost(field, value string, most int) error {
	if len(value) > most {
		return fmt.Errorf("%s is longer than %d bytes", field, most)
	}
	return nil
}
