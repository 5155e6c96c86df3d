// Package fiberbridge mounts TaskBridge in a host's Fiber app: routes for
// creating, reading, cancelling and following tasks by WebSocket, SSE and
// (long-)poll.
//
// The host owns app, authentication, middleware and lifecycle; the library owns
// what goes over the wire. See the package example for the whole wiring.
//
// # Middleware
//
// What Fiber's middleware sets on a response stays on it. Three need care:
//
//   - cache gives one caller's answers to another unless its Next is
//     [Bridge.Owns];
//   - idempotency answers by its key alone, whoever sends it, and creates are
//     safe to repeat without it: give it Next as well;
//   - timeout.New lets a handler run on after its request is over, which no
//     Fiber handler survives; timeout.NewWithContext is fine.
package fiberbridge
