// Package engine is the heart of TaskBridge: tasks, their event logs, the
// services that clients reach through a transport, and the seams that a host
// fills.
//
// A task is a durable, ordered log of events; everything else is a way to
// write to that log or to read it. The engine knows neither HTTP nor Fiber nor
// Redis. Package fiberbridge puts HTTP, SSE and WebSocket routes on it; a
// worker process that only writes needs an engine, a store and an executor.
//
// Services, one verb a file: create, poll, snapshot, subscribe, cancel, emit.
// Every service checks the caller's [AuthContext] against the host's
// [OwnershipPolicy] and returns an [*Error] whose Message may be shown to a
// client.
package engine
