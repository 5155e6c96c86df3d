// Package fiberbridge mounts TaskBridge in a host's Fiber app: routes for
// creating, reading, cancelling and following tasks by WebSocket, SSE and
// (long-)poll.
//
// The host owns app, authentication, middleware and lifecycle; the library owns
// what goes over the wire. See the package example for the whole wiring.
package fiberbridge
