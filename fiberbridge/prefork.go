package fiberbridge

import (
	"errors"
	"reflect"

	"github.com/gofiber/fiber/v2"
)

var errPrefork = errors.New("fiberbridge: Fiber's Prefork starts several processes, and the engine's store keeps " +
	"its tasks in the memory of one: a task created in one process would not exist in the others. " +
	"Turn Prefork off, or use a store that processes share")

// hasPrefork reports whether router belongs to an app that will prefork. A
// Fiber group does not give its app away, so that is read, and only read, by
// reflection; where it finds nothing the answer is no, and New's check in the
// child processes remains.
func hasPrefork(router fiber.Router) bool {
	switch r := router.(type) {
	case *fiber.App:
		return r.Config().Prefork
	case *fiber.Group:
		v := reflect.ValueOf(r).Elem().FieldByName("app")
		for _, field := range []string{"config", "Prefork"} {
			if v.Kind() == reflect.Pointer {
				v = v.Elem()
			}
			if v.Kind() != reflect.Struct {
				return false
			}
			v = v.FieldByName(field)
		}
		return v.Kind() == reflect.Bool && v.Bool()
	}
	return false
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
