package fiberbridge

import (
	"errors"
	"reflect"

	"github.com/gofiber/fiber/v2"
)

// errPrefork holds for every store. Fiber 2's parent process passes no signal on
// to its children, and as soon as one child has ended it kills the others, which
// may be in the middle of their drain; nothing that a child does can change that.
var errPrefork = errors.New("fiberbridge: Fiber's Prefork is not supported: its parent process passes no signal on and kills " +
	"all children when one has ended, so that streams and tasks cannot be drained. Turn Prefork off and run several processes " +
	"on a store that they share: behind a proxy, or on one port with reuseport.Listen of fasthttp and Bridge.Serve")

// appOf returns the app that router belongs to, nil where that cannot be told. A
// Fiber group does not give its app away.
func appOf(router fiber.Router) *fiber.App {
	switch r := router.(type) {
	case *fiber.App:
		return r
	case *fiber.Group:
		field := reflect.ValueOf(r).Elem().FieldByName("app")
		if field.IsValid() && field.Type() == reflect.TypeFor[*fiber.App]() {
			return (*fiber.App)(field.UnsafePointer())
		}
	}
	return nil
}

// hasPrefork reports whether router belongs to an app that will prefork. Where
// that cannot be told the answer is no, and New's check in the child processes
// remains.
func hasPrefork(router fiber.Router) bool {
	config, ok := configOf(router)
	return ok && config.boolean("Prefork")
}

// appConfig is a fiber.Config of which single fields can be read.
type appConfig struct{ v reflect.Value }

// configOf returns the settings of the app that router belongs to. A Fiber
// group does not give its app away, so they are read, and only read, by
// reflection.
func configOf(router fiber.Router) (appConfig, bool) {
	var v reflect.Value
	switch r := router.(type) {
	case *fiber.App:
		v = reflect.ValueOf(r.Config())
	case *fiber.Group:
		v = reflect.ValueOf(r).Elem().FieldByName("app")
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() == reflect.Struct {
			v = v.FieldByName("config")
		}
	}
	return appConfig{v}, v.Kind() == reflect.Struct
}

func (c appConfig) boolean(field string) bool {
	v := c.v.FieldByName(field)
	return v.Kind() == reflect.Bool && v.Bool()
}

func (c appConfig) integer(field string) int64 {
	if v := c.v.FieldByName(field); v.CanInt() {
		return v.Int()
	}
	return 0
}

// leaveFormsToHandlers makes the server hand forms over as they came. fasthttp
// parses a form before any handler sees it, and mime/multipart's ReadForm passes
// over parts whose head it cannot parse. With streamed bodies this is the host's
// to set, since a handler of its own may count on forms that are parsed.
func leaveFormsToHandlers(app *fiber.App) {
	if app == nil || app.Config().StreamRequestBody {
		return
	}
	app.Server().DisablePreParseMultipartForm = true
	// An app that is mounted in another one is served by that one.
	app.Hooks().OnMount(func(parent *fiber.App) error {
		leaveFormsToHandlers(parent)
		return nil
	})
}

// isNilRouter also finds nil pointers of Fiber's two routers.
func isNilRouter(router fiber.Router) bool {
	switch r := router.(type) {
	case nil:
		return true
	case *fiber.App:
		return r == nil
	case *fiber.Group:
		return r == nil
	}
	return false
}
