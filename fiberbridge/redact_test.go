package fiberbridge

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// What a host's own errors quote of a request, or of others' tasks, stays out of
// the log, whether or not they are *engine.Errors; what they say otherwise is there.
func TestHostErrorsLeakNothing(t *testing.T) {
	const foreign = "7k3mq2z5a6b7c2d3e4f5a6b7c2d3e4f5"
	quoting := func(says string) error {
		return fmt.Errorf("bad gateway: %s of 3f2504e0-4f89-41d3-9a0c-0305e82c3301 and {%s}: %q, token %s", says, foreign, leakInput+leakAnswer+leakReason, leakToken)
	}
	for name, wrap := range map[string]func(error) error{
		"plain":       func(err error) error { return err },
		"internal":    func(err error) error { return engine.NewError(engine.CodeInternal, "no").WithCause(err) },
		"unavailable": func(err error) error { return engine.NewError(engine.CodeStoreUnavailable, "no").WithCause(err) },
		"own code":    func(err error) error { return engine.NewError("TEAPOT", "no").WithCause(err) },
		"wrapped":     func(err error) error { return fmt.Errorf("asking: %w", engine.NewError("TEAPOT", "no").WithCause(err)) },
	} {
		t.Run(name, func(t *testing.T) {
			var log transcript
			b := &Bridge{cfg: Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
			app := fiber.New(fiber.Config{DisableStartupMessage: true})
			app.Post("/:task", func(c *fiber.Ctx) error {
				body := string(c.Body())
				remember(c, func() []string { return []string{body} })
				e := b.classify(c, wrap(quoting("the-gateway-7")))
				if strings.Contains(e.Message, "gateway") {
					t.Errorf("the client is told %s", e.Message)
				}
				return nil
			})
			req := httptest.NewRequest(fiber.MethodPost, "/x?access_token="+leakToken, strings.NewReader(`{"x":"`+leakInput+leakAnswer+leakReason+`"}`))
			req.Header.Set("Authorization", "Bearer "+leakToken)
			res, err := app.Test(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			got := log.String()
			for _, secret := range append(leakSecrets(), foreign, "3f2504e0") {
				if strings.Contains(got, secret) {
					t.Errorf("%q is in the log: %s", secret, got)
				}
			}
			for _, word := range []string{"bad gateway", "the-gateway-7", redacted} {
				if !strings.Contains(got, word) {
					t.Errorf("%q is not in the log: %s", word, got)
				}
			}
		})
	}
}

// The same through the routes: the host's hooks fail with what they were given.
func TestHooksThatQuoteLeakNothing(t *testing.T) {
	var log transcript
	h := startHost(t, hostSetup{
		logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		bridge: func(c *Config) { c.Auth = leakAuth },
		engine: func(c *engine.Config) {
			c.PrepareCreate = func(_ context.Context, _ engine.AuthContext, req *engine.CreateRequest) error {
				if req.TaskType == "test" {
					return nil
				}
				return engine.NewError(engine.CodeInternal, "no").WithCause(fmt.Errorf("cannot prepare %s %s", req.Input, req.Metadata))
			}
			c.ActionValidator = quotingValidator{}
		},
	})
	post := func(path, body string, want int) {
		t.Helper()
		conn := h.connect(t)
		fmt.Fprintf(conn, "POST /api/v1/tasks%s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			path, h.addr, bearer(leakToken), len(body), body)
		if c := readHead(t, conn, "HTTP/1.1"); c.status != want {
			t.Errorf("POST %s: %d %s", path, c.status, c.all(t))
		}
	}
	post("", `{"clientRequestId":"1","taskType":"quote","input":{"x":"`+leakInput+`"},"metadata":{"y":"`+leakMetadata+`"}}`, 500)
	post("", `{"clientRequestId":"2","taskType":"test"}`, 201)
	run := h.exec.Next(t)
	if err := run.Emit(t.Context(), engine.Suspended{
		SuspendID: "s", Kind: engine.UserActionRequired, ReasonCode: "r", AllowedActions: []string{"yes"},
	}); err != nil {
		t.Fatal(err)
	}
	post("/"+run.Task().ID+"/actions", `{"clientActionId":"c","suspendId":"s","actionType":"yes","payload":{"z":"`+leakAnswer+`"}}`, 500)
	got := log.String()
	for _, secret := range leakSecrets() {
		if strings.Contains(got, secret) {
			t.Errorf("%q is in the log: %s", secret, got)
		}
	}
	for _, words := range []string{"cannot prepare", "cannot validate"} {
		if !strings.Contains(got, words) {
			t.Errorf("%q is not in the log: %s", words, got)
		}
	}
}

type quotingValidator struct{}

func (quotingValidator) Validate(_ context.Context, _ engine.Task, _ engine.Suspension, _ string, payload json.RawMessage) error {
	return fmt.Errorf("cannot validate %s", payload)
}

func FuzzEachWord(f *testing.F) {
	f.Add("bad token abc.def-123456 of ü 7k3mq2z5a6b7c2d3e4f5a6b7c2d3e4f5", "abc.def-123456")
	f.Add("\xff\xfe a\x00b", "\xff")
	f.Fuzz(func(t *testing.T, text, given string) {
		got := eachWord(text, func(word string) bool { return len(word) >= shortestSecret && strings.Contains(given, word) })
		kept := eachWord(text, func(string) bool { return false })
		if kept != text {
			t.Errorf("%q became %q with nothing to hide", text, kept)
		}
		for _, word := range strings.FieldsFunc(strings.ReplaceAll(got, redacted, ""), func(r rune) bool { return !inToken(r) }) {
			if len(word) >= shortestSecret && strings.Contains(given, word) {
				t.Errorf("%q of %q is in %q", word, given, got)
			}
		}
	})
}
