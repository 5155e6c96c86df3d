package fiberbridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// routeOff is the path that switches a route off.
const routeOff = "-"

// taskParam is the parameter that task routes must keep.
const taskParam = "taskId"

// maxRouteParams is well below Fiber's own limit of parameters, which leaves
// room for those of the groups above and which Fiber answers with a panic.
const maxRouteParams = 16

// route is one entry of the table that Mount registers.
type route struct {
	field   string // of Routes
	path    string
	method  string
	task    bool // the path must keep :taskId
	handler fiber.Handler
}

// taskRoutes lists what Mount registers, in that order: the fewer parameters a
// path has, the earlier, so that "/tasks/ws" wins over "/tasks/:taskId".
func (b *Bridge) taskRoutes() []route {
	r := b.cfg.Routes
	return inOrder([]route{
		{"WebSocket", r.WebSocket, fiber.MethodGet, false, b.guardedWebSocket},
		{"OpenAPI", r.OpenAPI, fiber.MethodGet, false, b.OpenAPI},
		{"Create", r.Create, fiber.MethodPost, false, b.Create},
		{"Snapshot", r.Snapshot, fiber.MethodGet, true, b.Snapshot},
		{"Poll", r.Poll, fiber.MethodGet, true, b.Poll},
		{"SSE", r.SSE, fiber.MethodGet, true, b.guardedSSE},
		{"Cancel", r.Cancel, fiber.MethodPost, true, b.Cancel},
		{"Action", r.Action, fiber.MethodPost, true, b.Action},
	})
}

// healthRoutes lists what MountHealth registers.
func (b *Bridge) healthRoutes() []route {
	r := b.cfg.Routes
	return inOrder([]route{
		{"Health", r.Health, fiber.MethodGet, false, b.Health},
		{"Ready", r.Ready, fiber.MethodGet, false, b.Ready},
	})
}

func inOrder(routes []route) []route {
	routes = slices.DeleteFunc(routes, func(r route) bool { return r.path == routeOff })
	slices.SortStableFunc(routes, func(a, b route) int {
		return len(pathParams(a.path)) - len(pathParams(b.path))
	})
	return routes
}

// validate checks every path, with defaults applied. The error begins with the
// name of the field.
func (r Routes) validate() error {
	b := &Bridge{cfg: Config{Routes: r}}
	for _, group := range [][]route{b.taskRoutes(), b.healthRoutes()} {
		taken := map[string]string{}
		for _, rt := range group {
			if err := validatePath(rt.path, rt.task); err != nil {
				return fmt.Errorf("%s: %q %w", rt.field, rt.path, err)
			}
			key := rt.method + " " + shape(rt.path)
			if other, ok := taken[key]; ok {
				return fmt.Errorf("%s: %q is the same as %s", rt.field, rt.path, other)
			}
			taken[key] = rt.field
		}
	}
	return nil
}

// validatePath holds a path to what Fiber's router understands without
// surprises; whatever it accepts, Fiber registers without a panic.
func validatePath(path string, task bool) error {
	switch {
	case path[0] != '/':
		return errors.New(`must begin with "/"`)
	case strings.Contains(path, "//"):
		return errors.New("has an empty segment")
	case strings.ContainsAny(path, "*+?#\\<>%"):
		return errors.New("may hold parameters and plain text only: no wildcard, constraint, optional part, escape or query")
	}
	for i := range len(path) {
		if path[i] <= ' ' || path[i] >= 0x7f {
			return errors.New("may hold visible ASCII only")
		}
	}
	params := pathParams(path)
	if len(params) > maxRouteParams {
		return fmt.Errorf("has more than %d parameters", maxRouteParams)
	}
	for i, name := range params {
		if name == "" {
			return errors.New("has a parameter without a name")
		}
		for _, other := range params[:i] {
			// Fiber finds parameters without regard to case unless told otherwise.
			if strings.EqualFold(name, other) {
				return fmt.Errorf("has two parameters %q", name)
			}
		}
		if !task && strings.EqualFold(name, taskParam) {
			return errors.New("must not hold :" + taskParam)
		}
	}
	if task && !slices.Contains(params, taskParam) {
		return errors.New("must hold :" + taskParam)
	}
	return nil
}

// paramEnd holds the characters that end a parameter's name, as Fiber has them.
const paramEnd = ":/-."

// pathParams returns the names of a path's parameters, in order.
func pathParams(path string) []string {
	var names []string
	for {
		_, after, ok := strings.Cut(path, ":")
		if !ok {
			return names
		}
		end := strings.IndexAny(after, paramEnd)
		if end < 0 {
			end = len(after)
		}
		names = append(names, after[:end])
		path = after[end:]
	}
}

// shape is a path as Fiber's router tells it from others by default: whatever
// the names of its parameters, case, and a slash at the end.
func shape(path string) string {
	path = fillPath(path, func(string) string { return ":" })
	if len(path) > 1 {
		path = strings.TrimRight(path, "/")
	}
	return strings.ToLower(path)
}

// fillPath replaces a path's parameters.
func fillPath(path string, value func(name string) string) string {
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(path, ":")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		end := strings.IndexAny(after, paramEnd)
		if end < 0 {
			end = len(after)
		}
		out.WriteString(value(after[:end]))
		path = after[end:]
	}
}
