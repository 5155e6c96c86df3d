// Package middlewaretest tries the bridge behind those of Fiber's middlewares
// that store answers: cache, idempotency and limiter. They are a module of
// their own because they bring a serialiser (msgp) with them that nobody else
// here needs.
package middlewaretest
