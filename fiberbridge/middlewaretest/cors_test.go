package middlewaretest

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"

	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

const page = "https://app.example.com" // an origin

// recipe is what docs/deploying.md recommends; TestCORSRecipeIsTheDocs compares
// the lines between the marks with the page.
func recipe() fiber.Handler {
	// recipe begins
	return cors.New(cors.Config{
		AllowOrigins:  "https://app.example.com",
		AllowMethods:  "GET,POST,HEAD",
		AllowHeaders:  "Authorization,Content-Type,Last-Event-ID",
		ExposeHeaders: "Location,Retry-After",
		MaxAge:        600, // seconds for which a browser need not ask again
	})
	// recipe ends
}

func TestCORSRecipeIsTheDocs(t *testing.T) {
	source, err := os.ReadFile("cors_test.go")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/deploying.md")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(string(source), "// recipe begins\n")
	lines, _, _ = strings.Cut(lines, "\t// recipe ends")
	want := strings.ReplaceAll(lines, "\n\t", "\n")
	want = strings.TrimSpace(strings.Replace(want, "\treturn cors.New(", "app.Use(cors.New(", 1)) + ")"
	if !strings.Contains(string(docs), want) {
		t.Errorf("docs/deploying.md does not have\n%s", want)
	}
}

// preflight asks as a browser does before a request of a page of another
// origin, and says whether the browser would then send it (Fetch, section
// 4.8).
func preflight(t *testing.T, base, origin, method, path string, headers ...string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", origin)
	req.Header.Set("Access-Control-Request-Method", method)
	req.Header.Set("Access-Control-Request-Headers", strings.ToLower(strings.Join(headers, ",")))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 || resp.Header.Get("Access-Control-Allow-Origin") != origin {
		return false
	}
	list := func(name string) map[string]bool {
		found := map[string]bool{}
		for item := range strings.SplitSeq(resp.Header.Get(name), ",") {
			found[strings.ToLower(strings.TrimSpace(item))] = true
		}
		return found
	}
	if simple := method == http.MethodGet || method == http.MethodHead || method == http.MethodPost; !simple &&
		!list("Access-Control-Allow-Methods")[strings.ToLower(method)] {
		return false
	}
	allowed := list("Access-Control-Allow-Headers")
	for _, name := range headers {
		if !allowed[strings.ToLower(name)] {
			return false
		}
	}
	return true
}

// TestCORSRecipe: what the loops of docs/clients.md send passes the preflight,
// and their streams may be read. Without Last-Event-ID in the list the first
// connect would pass and the resume would not.
func TestCORSRecipe(t *testing.T) {
	follow, _ := streamHost(t, func(*fiberbridge.Bridge) fiber.Handler { return recipe() })
	stream := follow("alice")
	address := stream.Request.URL
	base := address.Scheme + "://" + address.Host
	_ = stream.Body.Close()
	for _, c := range []struct {
		name, method, path string
		headers            []string
	}{
		{"create", http.MethodPost, "/api/tasks", []string{"Authorization", "Content-Type"}},
		{"answer", http.MethodPost, strings.TrimSuffix(address.Path, "/events/stream") + "/actions", []string{"Authorization", "Content-Type"}},
		{"poll", http.MethodGet, strings.TrimSuffix(address.Path, "/stream"), []string{"Authorization"}},
		{"stream", http.MethodGet, address.Path, []string{"Authorization"}},
		{"resume", http.MethodGet, address.Path, []string{"Authorization", "Last-Event-ID"}},
	} {
		if !preflight(t, base, page, c.method, c.path, c.headers...) {
			t.Errorf("%s: a browser would not send it", c.name)
		}
		if preflight(t, base, "https://elsewhere.example", c.method, c.path, c.headers...) {
			t.Errorf("%s: a browser would send it for a page of another origin", c.name)
		}
	}

	req := stream.Request.Clone(t.Context())
	req.Header.Set("Origin", page)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != http.StatusOK || got != page {
		t.Errorf("%s, and the page that may read it is %q", resp.Status, got)
	}
}

// TestCORSWithoutLastEventID is the fault that the recipe is for.
func TestCORSWithoutLastEventID(t *testing.T) {
	follow, _ := streamHost(t, func(*fiberbridge.Bridge) fiber.Handler {
		return cors.New(cors.Config{AllowOrigins: page, AllowHeaders: "Authorization,Content-Type"})
	})
	stream := follow("alice")
	address := stream.Request.URL
	base := address.Scheme + "://" + address.Host
	_ = stream.Body.Close()
	if !preflight(t, base, page, http.MethodGet, address.Path, "Authorization") {
		t.Error("the first connect does not pass")
	}
	if preflight(t, base, page, http.MethodGet, address.Path, "Authorization", "Last-Event-ID") {
		t.Error("the resume passes: docs/deploying.md is wrong")
	}
}
