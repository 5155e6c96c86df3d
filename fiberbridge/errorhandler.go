package fiberbridge

import (
	"errors"
	"mime/multipart"
	"reflect"
	"runtime"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// ErrorHandler returns an error handler for fiber.Config that gives the
// protocol's error envelope to what Fiber itself answers on the bridge's
// routes: a body over the limit (413), a malformed form (400), a wrong method
// (405), no upgrade (426), a panic that the recover middleware caught (500).
// Everything else goes to next, or to Fiber's default if next is nil:
// other routes, and errors of the host's own middleware.
//
//	app := fiber.New(fiber.Config{ErrorHandler: bridge.ErrorHandler(nil)})
//
// Without it those answers are Fiber's, with the same statuses and as text.
// When fasthttp gives up in the middle of a body (a chunked one over the
// limit, a broken form) it has forgotten the path; such a 400 or 413 is the
// envelope whatever the path was.
func (b *Bridge) ErrorHandler(next fiber.ErrorHandler) fiber.ErrorHandler {
	if next == nil {
		next = fiber.DefaultErrorHandler
	}
	return func(c *fiber.Ctx, err error) error {
		if err == nil {
			return nil
		}
		if inside(c) {
			return b.fail(c, internal(err))
		}
		var fe *fiber.Error
		if errors.As(err, &fe) {
			if e := fiberRefusal(fe.Code); e != nil && b.owns(c, fe.Code) {
				if strings.HasSuffix(fe.Message, multipart.ErrMessageTooLarge.Error()) {
					e = errFormTooLarge
				}
				if fe.Code == fiber.StatusRequestEntityTooLarge {
					awaitBody(c)
				}
				return b.refuse(c, fe.Code, e)
			}
			return next(c, err)
		}
		var crash runtime.Error
		if errors.As(err, &crash) && b.owns(c, 0) {
			return b.fail(c, internal(err))
		}
		return next(c, err)
	}
}

// Owns reports whether a request is for one of the bridge's routes. Give it to
// the Next of middleware that must leave them alone, above all Fiber's cache:
//
//	app.Use(cache.New(cache.Config{Next: bridge.Owns}))
//
// That middleware keys by path alone and does not heed the "no-store" that
// every answer of the bridge carries: without Next it gives one caller's
// answers to another, and a stream's subscribers an empty response.
func (b *Bridge) Owns(c *fiber.Ctx) bool { return b.owns(c, 0) }

// internal keeps an *engine.Error in err's chain from being the answer.
func internal(err error) error {
	return engine.NewError(engine.CodeInternal, "internal error").WithCause(err)
}

// fiberRefusal gives the statuses that Fiber and fasthttp answer with by
// themselves the protocol's words; nil for any other.
func fiberRefusal(status int) *engine.Error {
	switch status {
	case fiber.StatusBadRequest:
		return engine.NewError(engine.CodeInvalidRequest, "malformed request")
	case fiber.StatusNotFound:
		return errNotFound
	case fiber.StatusMethodNotAllowed:
		return engine.NewError(engine.CodeInvalidRequest, "the method is not allowed here")
	case fiber.StatusRequestTimeout:
		return engine.NewError(engine.CodeInvalidRequest, "the request took too long to arrive")
	case fiber.StatusRequestEntityTooLarge:
		return errTooLarge
	case fiber.StatusUpgradeRequired:
		return engine.NewError(engine.CodeInvalidRequest, "a WebSocket handshake is required")
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return engine.NewError(engine.CodeRequestTooLarge, "the header is larger than the server allows")
	}
	return nil
}

// owns reports whether a request that Fiber refused with status was one for a
// handler of the bridge.
func (b *Bridge) owns(c *fiber.Ctx, status int) bool {
	if len(c.Request().Header.RawHeaders()) == 0 { // forgotten by fasthttp
		return status == fiber.StatusBadRequest || status == fiber.StatusRequestEntityTooLarge
	}
	method := c.Method()
	if method == fiber.MethodHead {
		method = fiber.MethodGet
	}
	cfg, path := c.App().Config(), c.Path()
	if !cfg.StrictRouting && len(path) > 1 {
		path = strings.TrimSuffix(path, "/") // as routing does
	}
	for _, r := range b.owned.of(c.App()) {
		if (r.method == method || status == fiber.StatusMethodNotAllowed) && fiber.RoutePatternMatch(path, r.pattern, cfg) {
			return true
		}
	}
	return false
}

// ownedRoutes remembers where the library's handlers are in an app. The app is
// asked, rather than Mount noting it, because only the app knows under which
// prefix a mounted sub-app ended up, and where hosts put handlers by hand.
type ownedRoutes struct {
	mu   sync.Mutex
	apps map[*fiber.App]ownedInApp
}

type ownedInApp struct {
	handlers uint32 // how many the app had; more may be added until it listens
	routes   []ownedRoute
}

type ownedRoute struct{ method, pattern string }

func (o *ownedRoutes) of(app *fiber.App) []ownedRoute {
	o.mu.Lock()
	defer o.mu.Unlock()
	if known, ok := o.apps[app]; ok && known.handlers == app.HandlersCount() {
		return known.routes
	}
	found := ownedInApp{handlers: app.HandlersCount()}
	for _, stack := range app.Stack() {
		for _, r := range stack {
			if r.Method != fiber.MethodHead && len(r.Handlers) > 0 && isOwnHandler(r.Handlers[len(r.Handlers)-1]) {
				found.routes = append(found.routes, ownedRoute{r.Method, r.Path})
			}
		}
	}
	if o.apps == nil {
		o.apps = map[*fiber.App]ownedInApp{}
	}
	o.apps[app] = found
	return found.routes
}

// ownHandlers are the addresses of the library's handlers, which are the same
// for every bridge.
var ownHandlers = sync.OnceValue(func() map[uintptr]bool {
	var b *Bridge
	handlers := map[uintptr]bool{}
	for _, h := range []fiber.Handler{
		b.Create, b.Snapshot, b.Poll, b.Cancel, b.Action, b.SSE, b.WebSocket, b.OpenAPI, b.Health, b.Ready,
		b.guardedSSE, b.guardedWebSocket,
	} {
		handlers[reflect.ValueOf(h).Pointer()] = true
	}
	return handlers
})

func isOwnHandler(h fiber.Handler) bool { return ownHandlers()[reflect.ValueOf(h).Pointer()] }
