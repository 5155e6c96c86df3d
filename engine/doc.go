// Package engine is the heart of TaskBridge: tasks, their event logs, the
// services that clients reach through a transport, and the seams that a host
// fills.
//
// A task is a durable, ordered log of events; everything else is a way to
// write to that log or to read it. The engine knows neither HTTP nor Fiber nor
// Redis. Package fiberbridge puts HTTP, SSE and WebSocket routes on it; a
// process that only works on tasks needs a store and an engine on it, and writes
// through [Engine.Emitter].
//
// Services for clients, one verb a file: create, poll, snapshot, subscribe,
// cancel, act. Each checks the caller's [AuthContext] against revocations and the
// host's [OwnershipPolicy] and returns an [*Error] whose Message may be shown to
// a client.
//
// What a host fills in: a [Store] (packages memstore and rueidisstore), a
// [TaskExecutor] (package localexec), an [OwnershipPolicy], and, if it likes, an
// [AttachmentStore], [UploadPolicy], [ActionValidator], [MetricsSink] or
// [ReadinessProbe].
package engine
