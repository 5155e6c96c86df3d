package fiberbridge_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/internal/smuggling"
	"github.com/taskbridge/taskbridge-fiber/internal/smuggling/careless"
)

// canaries counts requests that nobody has sent.
type canaries struct {
	mu   sync.Mutex
	hits map[string]int
}

func (s *canaries) hit(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hits == nil {
		s.hits = map[string]int{}
	}
	s.hits[path]++
}

func (s *canaries) of(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[path]
}

// hostsRoutes are routes of a host beside the bridge's, and a canary.
func hostsRoutes(app *fiber.App, seen *canaries) {
	app.Use("/canary", func(c *fiber.Ctx) error {
		seen.hit(strings.Clone(c.Path()))
		return c.SendString("canary")
	})
	careless.Mount(app)
}

// However a request is answered, whatever its method, its framing and the app's
// settings: what its body says is never executed, and nothing is answered that
// was not asked.
func TestNoBodyIsARequest(t *testing.T) {
	methods := []string{"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE"}
	for name, cfg := range bodyWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen canaries
			h := newHTTPHost(t, func(o *hostOptions) {
				o.fiber = cfg
				o.before = func(app *fiber.App) { hostsRoutes(app, &seen) }
				o.bridge.Routes.OpenAPI = "/openapi.json"
			})
			base, _ := h.listen(t)
			addr := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)
			over := h.create(t, "words", `{}`)
			h.until(t, over, "COMPLETED")
			last := *h.poll(t, over, "").NextAfterEventID
			targets := append(careless.Targets(), "/health", "/ready", "/api/v1/openapi.json",
				"/api/v1/tasks", "/api/v1/tasks/"+over, "/api/v1/tasks/"+over+"/events",
				"/api/v1/tasks/"+over+"/events/stream", "/api/v1/tasks/"+over+"/events/stream?lastEventId="+last,
				"/api/v1/tasks/"+over+"/cancel", "/api/v1/tasks/"+over+"/actions", "/api/v1/tasks/ws",
				"/api/v1/tasks/aaaaaaaaaaaaaaaa/events/stream", "/api/v1/tasks/aaaaaaaaaaaaaaaa/cancel")
			n := 0
			for _, target := range targets {
				for _, method := range methods {
					if method == http.MethodHead && careless.StreamsAnswer(target) {
						continue
					}
					for _, framing := range smuggling.Framings() {
						credentials := []string{"Authorization: Bearer alice\r\nOrigin: http://a.example\r\nAccess-Control-Request-Method: POST\r\n"}
						if strings.HasPrefix(target, "/api") {
							credentials = append(credentials, "")
						}
						for _, credential := range credentials {
							n++
							canary := fmt.Sprintf("/canary/%d", n)
							what := fmt.Sprintf("%s %s, %s, %.8q", method, target, framing.Name, credential)
							if _, err := oneAnswer(addr, method, target, credential, framing, canary); err != nil {
								t.Errorf("%s: %v", what, err)
							}
							if hits := seen.of(canary); hits > 0 {
								t.Errorf("%s: what its body says was executed %d times", what, hits)
							}
						}
					}
				}
			}
		})
	}
}

// oneAnswer sends a request whose body asks for canary, and another one if the
// connection stays open, and reports what is not as it should be.
func oneAnswer(addr, method, target, headers string, framing smuggling.Framing, canary string) (closed bool, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(enough))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_ = framing.Write(conn, method, target, headers, smuggling.Body(canary)) // it may be refused before all is sent
	}()
	defer func() { _ = conn.Close(); <-sent }()
	in := bufio.NewReader(conn)
	answer, err := finalAnswer(in, method)
	if errors.Is(err, syscall.ECONNRESET) && framing.Trails() {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("no answer: %w", err)
	}
	if !answer.Close {
		<-sent
		if _, err := io.WriteString(conn, "GET /marker HTTP/1.1\r\nHost: host\r\nConnection: close\r\n\r\n"); err != nil {
			return false, err
		}
		next, err := finalAnswer(in, "GET")
		if err != nil {
			return answer.Close, fmt.Errorf("after %d: no answer to the next request: %w", answer.StatusCode, err)
		}
		if next.StatusCode != http.StatusOK || next.body != "marker" {
			return answer.Close, fmt.Errorf("after %d: the next request was answered with %d %.100q", answer.StatusCode, next.StatusCode, next.body)
		}
	}
	rest, _ := io.ReadAll(in) // a reset ends it as well
	if len(rest) > 0 {
		return answer.Close, fmt.Errorf("after %d, closed %v: answered unasked: %.200q", answer.StatusCode, answer.Close, rest)
	}
	return answer.Close, nil
}

// A connection goes on after a body that could be read, also without its
// handler, and in particular after one that it has read itself.
func TestConnectionGoesOnAfterItsBody(t *testing.T) {
	t.Parallel()
	var seen canaries
	h := newHTTPHost(t, func(o *hostOptions) {
		o.fiber = streaming
		o.before = func(app *fiber.App) { hostsRoutes(app, &seen) }
	})
	base, _ := h.listen(t)
	addr := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)
	const credential = "Authorization: Bearer alice\r\n"
	for _, c := range []struct {
		target, framing string
		closes          bool
	}{
		{target: "/ignores", framing: "length"},
		{target: "/ignores", framing: "chunks"},
		{target: "/ignores", framing: "trailers"},
		{target: "/ignores", framing: "expect, length"},
		{target: "/ignores", framing: "form"},
		{target: "/missing", framing: "chunk"},
		{target: "/panics", framing: "length"},
		{target: "/begins", framing: "length"},
		{target: "/begins", framing: "chunks"},
		{target: "/parses", framing: "form"},
		{target: "/parses", framing: "form, chunks"},
		{target: "/reads", framing: "length"},
		{target: "/api/v1/tasks", framing: "length"},
		{target: "/api/v1/tasks", framing: "chunks"},
		{target: "/api/v1/tasks/aaaaaaaaaaaaaaaa/cancel", framing: "chunks"},
		// Whether these were read to their ends is not to be seen.
		{target: "/reads", framing: "chunks", closes: true},
		{target: "/closes", framing: "length", closes: true},
		{target: "/streams", framing: "chunks", closes: true},
	} {
		for _, framing := range smuggling.Framings() {
			if framing.Name != c.framing {
				continue
			}
			closed, err := oneAnswer(addr, "POST", c.target, credential, framing, "/canary")
			if err != nil || closed != c.closes {
				t.Errorf("%s, %s: closed %v, %v", c.target, c.framing, closed, err)
			}
		}
	}
}

type finalReply struct {
	*http.Response
	body string
}

// finalAnswer reads an answer to its end, past "100 Continue".
func finalAnswer(in *bufio.Reader, method string) (finalReply, error) {
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return finalReply{}, err
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil && !resp.Close {
			return finalReply{}, err
		}
		return finalReply{resp, string(body)}, nil
	}
}
