package fiberbridge

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// auditLog keeps what it is told.
type auditLog struct {
	mu     sync.Mutex
	events []engine.AuditEvent
}

func (a *auditLog) Audit(_ context.Context, e engine.AuditEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
}

func (a *auditLog) take() []engine.AuditEvent {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := a.events
	a.events = nil
	return taken
}

// cookieHost is an app whose callers bring a cookie or a bearer token.
func cookieHost(t *testing.T, audit engine.AuditSink, origins ...string) *fiber.App {
	t.Helper()
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	eng, err := engine.New(engine.Config{Store: store, Ownership: engine.OwnerOnly(), Audit: audit})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Engine: eng, Origins: origins, Auth: func(c *fiber.Ctx) (engine.AuthContext, error) {
		if c.Cookies("session") == "ada" || c.Get(fiber.HeaderAuthorization) == "Bearer ada" || c.Get(fiber.HeaderAuthorization) == "Basic YWRh" {
			return engine.AuthContext{Subject: "ada"}, nil
		}
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "sign in first")
	}})
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New()
	if err := b.Mount(app); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return app
}

const (
	someTask = "0123456789abcdef0123"
	aForm    = "--b\r\nContent-Disposition: form-data; name=\"clientRequestId\"\r\n\r\n1\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"taskType\"\r\n\r\nx\r\n--b--\r\n"
)

// changes are the requests that change something, each as an HTML form or a
// script of another page could send it without asking.
var changes = map[string]struct{ path, contentType, body string }{
	"a multipart create": {"/tasks", "multipart/form-data; boundary=b", aForm},
	"a JSON create":      {"/tasks", "application/json", `{"clientRequestId":"1","taskType":"x"}`},
	"an empty cancel":    {"/tasks/" + someTask + "/cancel", "", ""},
	"an answer": {
		"/tasks/" + someTask + "/actions", "application/json",
		`{"clientActionId":"1","suspendId":"s","actionType":"approve"}`,
	},
}

func TestForeignPagesChangeNothing(t *testing.T) {
	for _, tc := range []struct {
		name    string
		headers [][2]string
		refused bool
	}{
		{"no browser", nil, false},
		{"the same origin", [][2]string{{"Origin", "http://app.example.com"}}, false},
		{"a listed origin", [][2]string{{"Origin", "https://listed.example"}}, false},
		{"a sibling domain", [][2]string{{"Origin", "http://evil.example.com"}}, true},
		{"a foreign site", [][2]string{{"Origin", "https://evil.example"}}, true},
		{"an opaque origin", [][2]string{{"Origin", "null"}}, true},
		{"two origins", [][2]string{{"Origin", "http://app.example.com"}, {"Origin", "https://evil.example"}}, true},
		{"the browser says same-origin, the proxy changed Host", [][2]string{{"Origin", "https://public.example"}, {"Sec-Fetch-Site", "same-origin"}}, false},
		{"typed by the user", [][2]string{{"Sec-Fetch-Site", "none"}}, false},
		{"a sibling that hides its origin", [][2]string{{"Sec-Fetch-Site", "same-site"}}, true},
		{"a foreign page that hides its origin", [][2]string{{"Sec-Fetch-Site", "cross-site"}}, true},
		{"a listed origin, cross-site", [][2]string{{"Origin", "https://listed.example"}, {"Sec-Fetch-Site", "cross-site"}}, false},
		{"cross-site from an origin that is not listed", [][2]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}}, true},
		{"two words of the browser's", [][2]string{{"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "cross-site"}}, true},
		{"a foreign page with a bearer token", [][2]string{{"Origin", "https://evil.example"}, {"Authorization", "Bearer ada"}}, false},
		{"a foreign page with Basic, which browsers add", [][2]string{{"Origin", "https://evil.example"}, {"Authorization", "Basic YWRh"}}, true},
		{"a foreign page with a scheme alone", [][2]string{{"Origin", "https://evil.example"}, {"Authorization", "Bearer"}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			audit := &auditLog{}
			app := cookieHost(t, audit, "https://listed.example")
			for what, change := range changes {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://app.example.com"+change.path, strings.NewReader(change.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Cookie", "session=ada")
				if change.contentType != "" {
					req.Header.Set("Content-Type", change.contentType)
				}
				for _, h := range tc.headers {
					req.Header.Add(h[0], h[1])
				}
				res, err := app.Test(req, -1)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if refused := res.StatusCode == http.StatusForbidden; refused != tc.refused {
					t.Errorf("%s: %s, want refused %v", what, res.Status, tc.refused)
				}
				denied := 0
				for _, e := range audit.take() {
					if e.Action == engine.AuditOriginDenied && !e.Time.IsZero() {
						denied++
					}
				}
				if want := map[bool]int{true: 1}[tc.refused]; denied != want {
					t.Errorf("%s: %d audit events of a denied origin, want %d", what, denied, want)
				}
			}
		})
	}
}

// "*" lets every page, also one that does not say where it is from.
func TestAllOriginsMayBeListed(t *testing.T) {
	app := cookieHost(t, nil, "*")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://app.example.com/tasks/"+someTask+"/cancel", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", "session=ada")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := app.Test(req, -1)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound { // it may, and there is no such task
		t.Errorf("got %s, want 404", res.Status)
	}
}

// Denials are audited with who was denied, and without credentials.
func TestDenialsAreAudited(t *testing.T) {
	audit := &auditLog{}
	app := cookieHost(t, audit)
	get := func(cookie string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://app.example.com/tasks/"+someTask, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", cookie)
		res, err := app.Test(req, -1)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	get("session=wrong-secret-1234")
	get("session=ada")
	events := audit.take()
	if len(events) != 2 || events[0].Action != engine.AuditAuthenticationDenied || events[1].Action != engine.AuditAccessDenied {
		t.Fatalf("audited were %+v, want a denied authentication and a denied access", events)
	}
	if e := events[1]; e.Subject != "ada" || e.TaskID != someTask || e.Access != engine.AccessRead || e.Reason == "" {
		t.Errorf("the denied access is %+v", e)
	}
	for _, e := range events {
		if strings.Contains(e.Reason, "wrong-secret-1234") {
			t.Errorf("%+v repeats a credential", e)
		}
	}
}
