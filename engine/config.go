package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// Config is what a host gives New. Only Store is required; the zero value of
// every other field is a safe default. New works on a copy.
type Config struct {
	// Store holds tasks and events. Required.
	Store Store
	// Executor runs the tasks. Nil is a process that creates none: every
	// create is refused with TASK_SUBMISSION_ERROR.
	Executor TaskExecutor
	// Ownership decides who may do what. Defaults to denying everything.
	Ownership OwnershipPolicy
	// Attachments holds uploaded files. Defaults to Store if that is an
	// AttachmentStore; with neither, a create with files is refused.
	Attachments AttachmentStore
	// Uploads decides about the files of each create request. Defaults to
	// allowing all that the transport's limits let through.
	Uploads UploadPolicy
	// PrepareCreate may refuse or change a create request. It gets what fits
	// the schema, before policy, comparison or executor see it; what it makes
	// of that is checked again. An *Error that it returns is the answer; any
	// other error is an INTERNAL_ERROR. Defaults to none.
	PrepareCreate func(ctx context.Context, auth AuthContext, req *CreateRequest) error

	// ActionValidator checks the payload of an answer to a suspension. Defaults
	// to none: every JSON object within Limits fits.
	ActionValidator ActionValidator

	Limits   Limits
	Emit     EmitConfig
	Lease    LeaseConfig
	Delivery fanout.Config
	// RollUp lists task types whose adjacent TASK_MESSAGE events, if of equal
	// level, may reach a subscriber by SSE or WebSocket as one, while it cannot
	// keep up: with their texts in a row, and the id and time of the last of
	// them. A slow reader of a stream of tokens then catches up, where it would
	// fall behind for good. Who keeps up sees every event, and so do polls; the
	// log itself is not changed. Defaults to none.
	RollUp []string
	// Revocations bounds what Revoke stores.
	Revocations RevocationConfig
	// Creates bounds how fast one subject asks for tasks.
	Creates CreateRate

	// Readiness lists the host's own probes beside those that Store and
	// Executor bring.
	Readiness []ReadinessProbe
	// ReadyTTL is how long what the probes said counts: Engine.Ready asks them no
	// more often. Defaults to 1s.
	ReadyTTL time.Duration
	// Metrics receives counts. Defaults to none.
	Metrics MetricsSink
	// Audit receives denials and revocations. Defaults to none.
	Audit AuditSink
	// Logger receives what nobody is returned. Defaults to slog.Default().
	Logger *slog.Logger
}

// Limits bounds what the engine accepts.
type Limits struct {
	// PayloadBytes bounds the payload of one event. Defaults to 256 KiB.
	PayloadBytes int
	// InputBytes bounds the input and the metadata of a create request, each.
	// Defaults to 1 MiB.
	InputBytes int
	// Nesting bounds how deep JSON may be nested, in payloads and requests.
	// Defaults to 200.
	Nesting int
	// CheckpointBytes bounds what Run.Save keeps of one task. Defaults to 64 KiB.
	CheckpointBytes int
}

// EmitConfig tunes how events reach the store.
type EmitConfig struct {
	// BatchEvents and BatchBytes bound one append. Default to 256 events and
	// 256 KiB.
	BatchEvents int
	BatchBytes  int
	// BufferBytes bounds what a run may stream ahead of the store; beyond it
	// Run.Stream and Run.Text wait. Defaults to 1 MiB.
	BufferBytes int
	// RollUp is how long Run.Text gathers adjacent text into one event. The
	// first text after a pause leaves at once. Defaults to 25ms.
	RollUp time.Duration
	// RollUpBytes ends a roll-up early. Defaults to 16 KiB.
	RollUpBytes int
	// Retry is how long an append is repeated while the store is unavailable.
	// Defaults to 2m.
	Retry time.Duration
}

// Metric names what a MetricsSink counts.
type Metric string

// The metrics. MetricStreams and MetricConnections are gauges: they go up and
// down. The others are counters: they only go up. docs/deploying.md says what
// each counts.
const (
	MetricTaskStarts   Metric = "task_starts_total"
	MetricDuplicates   Metric = "duplicates_total"
	MetricCancels      Metric = "cancels_total"
	MetricTaskFailures Metric = "task_failures_total"
	MetricReplays      Metric = "replays_total"
	MetricGaps         Metric = "gaps_total"
	MetricStreams      Metric = "streams_active"

	// MetricConnections are those of fiberbridge's listeners, without streams
	// that were taken over. MetricConnectionsClosed counts idle ones that were
	// closed for new ones, MetricAcceptWaits how often none could be accepted.
	MetricConnections       Metric = "connections_active"
	MetricConnectionsClosed Metric = "connections_closed_total"
	MetricAcceptWaits       Metric = "accept_waits_total"
)

// MetricsSink receives counts. Add is called from hot paths, concurrently, and
// must return at once. transport is "sse", "websocket", "poll" or "".
type MetricsSink interface {
	Add(m Metric, delta int64, transport string)
}
