// Package conformance is the wire contract as a black-box suite: it builds the
// demo host, runs it as a process of its own, and drives it through real
// sockets. Every HTTP answer is held against the OpenAPI document, every event,
// SSE message and WebSocket frame against the schemas.
//
// It is a module of its own, so that its libraries reach nobody who imports the
// bridge.
package conformance
