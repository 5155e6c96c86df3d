package fiberbridge

import (
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Config is what a host gives New. Engine and Auth are required; the zero
// value of every other field is a safe default. New works on a copy.
type Config struct {
	// Engine runs the services. Required.
	Engine *engine.Engine
	// Auth tells who a request comes from. Required.
	Auth AuthContextResolver
	// Origins lists browser origins ("https://app.example.com") whose pages may
	// open WebSockets, and create, cancel and answer tasks with credentials that
	// the browser adds by itself (cookies); "*" allows all. For requests with a bearer
	// token only CORS decides. Defaults to the same host and port, which are always
	// allowed.
	Origins []string

	Routes    Routes
	SSE       SSEConfig
	WebSocket WebSocketConfig
	Streams   StreamsConfig
	Poll      PollConfig
	Answers   AnswersConfig
	// Connections bounds what Listen, Serve and Listener accept.
	Connections ConnectionsConfig
	Uploads     UploadConfig
	Drain       DrainConfig

	// Logger receives causes of internal errors and nothing of a payload or a
	// credential. Defaults to slog.Default().
	Logger *slog.Logger
}

// AuthContextResolver maps a request to who it comes from. It sees the Fiber
// context of every request, the WebSocket upgrade included, after the host's
// own middleware. An *engine.Error that it returns is the answer (use
// CodeAuthentication, or CodeStoreUnavailable for a passing fault); any other
// error is answered with AUTHENTICATION_ERROR and goes to the log only.
// Nothing of c may be kept.
type AuthContextResolver func(c *fiber.Ctx) (engine.AuthContext, error)

// Routes holds the paths below the router given to Mount. A path may carry
// parameters of the host ("/projects/:projectId/tasks"); those that have
// ":taskId" must keep it. Beside plain parameters there is only plain text: no
// wildcard, constraint, or optional part. A path "-" switches a route off.
type Routes struct {
	Create    string // Defaults to "/tasks".
	Snapshot  string // Defaults to "/tasks/:taskId".
	Poll      string // Defaults to "/tasks/:taskId/events".
	SSE       string // Defaults to "/tasks/:taskId/events/stream".
	WebSocket string // Defaults to "/tasks/ws".
	Cancel    string // Defaults to "/tasks/:taskId/cancel".
	Action    string // Defaults to "/tasks/:taskId/actions".
	// OpenAPI serves the OpenAPI document. Defaults to "-", not at all.
	OpenAPI string

	// Health and Ready are below the router given to MountHealth.
	Health string // Defaults to "/health".
	Ready  string // Defaults to "/ready".
}

// SSEConfig tunes the SSE route.
type SSEConfig struct {
	// Heartbeat is sent when a stream was idle for this long. Defaults to 15s.
	Heartbeat time.Duration
	// DisableComment leaves out the comment heartbeat, DisableData the JSON
	// one. With both a stream is silent while idle, and a vanished peer is
	// noticed late.
	DisableComment bool
	DisableData    bool
	// Retry is how long clients wait before they come back after a cut.
	// Defaults to 2s.
	Retry time.Duration
}

// WebSocketConfig tunes the WebSocket route.
type WebSocketConfig struct {
	// Heartbeat is sent when a socket was idle for this long; a peer that was
	// silent for as long is pinged. Defaults to 25s.
	Heartbeat time.Duration
	// PongTimeout cuts a peer that stays silent after a ping. Defaults to 10s,
	// or Heartbeat if that is shorter.
	PongTimeout time.Duration
	// SubscribeTimeout closes a socket whose first frame does not come.
	// Defaults to 10s.
	SubscribeTimeout time.Duration
	// MessageBytes bounds a client's message. Defaults to 4096.
	MessageBytes int
	// MaxSubscriptions bounds the tasks followed by one socket. Defaults to 64.
	MaxSubscriptions int
	// FramesPerSecond is how many frames of one socket are worked on in the long
	// run; 64 and MaxSubscriptions more may come at once. What comes beyond is
	// answered with SUBSCRIPTION_REJECTED and RATE_LIMITED. Control frames, and
	// fragments but the last, are counted apart at the same rate; a socket with
	// 256 + MessageBytes more of them is closed with 1008. Defaults to 50.
	FramesPerSecond int
	// MaxIdle is how many sockets may be open that have not subscribed yet.
	// When there are more, one of the subject that has most of them is closed
	// with 1013, the one that has been silent for longest. Defaults to half of
	// Streams.Max.
	MaxIdle int
	// IdleTimeout closes a socket that had several subscriptions and has none.
	// Defaults to 5s.
	IdleTimeout time.Duration
	// CloseFrames sends close codes 1012 (draining) and 1013 (slow, maximum
	// age) where the default is a cut, which old clients resume from.
	CloseFrames bool
}

// StreamsConfig bounds SSE and WebSocket streams together.
type StreamsConfig struct {
	// Max is how many streams this bridge serves at once. Defaults to the
	// process's limit of descriptors less Connections.Reserve and less 5 % (at
	// least 32) for all other requests. Streams and waiting polls together never
	// take more than that.
	Max int
	// MaxPerSubject is how many of them one subject may have; a WebSocket counts
	// once, whatever it follows. Defaults to 10,000.
	MaxPerSubject int
	// MaxPerTask is how many subscribers one task may have. Defaults to no
	// bound but Max.
	MaxPerTask int
	// MaxPollsPerSubject is how many polls of one subject there may be at once, from
	// the request until the answer has been sent.
	// Defaults to 1000.
	MaxPollsPerSubject int
	// Recheck is how often the ownership policy is asked again about each open
	// stream, unless its answers cannot change (engine.OwnerOnly and
	// engine.ScopeBased). Defaults to shortly before each heartbeat of the
	// transport; negative is never.
	Recheck time.Duration
	// MaxAge ends a stream with a notice after this long, spread by a tenth.
	// Defaults to none.
	MaxAge time.Duration
	// WriteTimeout cuts a subscriber that takes nothing for this long.
	// Defaults to 30s.
	WriteTimeout time.Duration
	// DisableFastPath serves every stream through net.Conn with goroutines of
	// its own, as for TLS. For comparison and for systems where a duplicated
	// descriptor is unwelcome.
	DisableFastPath bool
}

// AnswersConfig bounds plain answers (all but streams) until they have been sent.
type AnswersConfig struct {
	// PageBytes bounds the events of one page of a poll; the first event counts
	// whatever its size. Defaults to 1 MiB.
	PageBytes int
	// MaxBytesPerSubject bounds the bytes of one subject's answers that have not
	// been sent yet, and MaxBytes those of all subjects. Beyond that further answers
	// are refused with RATE_LIMITED. A subject that has some may also hold at most
	// half of what is left. Answers of up to 16 KiB do not count. Default to 16 MiB
	// and 128 MiB.
	MaxBytesPerSubject, MaxBytes int64
	// WriteTimeout is how long sending an answer may take, for each MiB or part of
	// one; then its connection is closed. fiber.Config.WriteTimeout replaces it if it
	// is set. Set that one if middleware adds large bodies to the bridge's answers.
	// Defaults to 1m.
	WriteTimeout time.Duration
}

// PollConfig tunes the poll route.
type PollConfig struct {
	// Gather is how long a long-poll of a busy task waits for further events, so that
	// one request gets many. A task is busy if its events follow each other within
	// this time. It adds up to that much to their latency; an event after a pause is
	// answered at once. At most 1s; negative turns it off. Defaults to 50ms.
	Gather time.Duration
}

// UploadConfig bounds the files of a multipart create. What one caller may
// bring is engine.Config.Uploads' to decide.
//
// Two settings of fiber.Config together let files pass through without being
// held in memory: StreamRequestBody and DisablePreParseMultipartForm. Without
// the first, BodyLimit (4 MiB unless the host says otherwise) bounds the whole
// form before anything here does, and each form is in memory at once. With the
// first alone, Fiber parses forms by itself before any handler sees them:
// neither these limits nor BodyLimit prevent a full disk, the order between
// fields is lost, and so are parts whose head it cannot parse. Mount logs which of
// these apply.
type UploadConfig struct {
	// Disable refuses every request with files.
	Disable bool
	// IgnoreFields lists names of form fields whose files are ignored, for forms that
	// carry more than a task's files. A file under any other name than attachment and
	// attachments is refused. Defaults to none.
	IgnoreFields []string
	// MaxFiles per request. Defaults to 10.
	MaxFiles int
	// MaxFileBytes for one file. Defaults to 10 MiB.
	MaxFileBytes int64
	// MaxTotalBytes for all files of a request. Defaults to 32 MiB, or
	// MaxFileBytes if that is more.
	MaxTotalBytes int64
	// ContentTypes lists what files may be: "application/pdf", "image/*". A
	// file's type is the declared one, which its content must not contradict;
	// what is declared as application/octet-stream or not at all is whatever
	// its content looks like. Defaults to all types.
	ContentTypes []string
	// MaxPerSubject is how many bodies of one subject may be streamed at once,
	// MaxBytesPerSubject how many bytes they may have together, by their declared
	// lengths or else as they arrive, and MaxBytes how many those of all subjects may
	// have. These hold for forms and JSON, with StreamRequestBody; bodies of up to
	// 16 KiB do not count. Beyond them RATE_LIMITED is answered before the body is
	// read. Default to 16, 128 MiB and 1 GiB, or more if one form may have more.
	MaxPerSubject                int
	MaxBytesPerSubject, MaxBytes int64
	// MinRate is how many bytes per second of a streamed body must arrive, on average
	// in each 10s. Defaults to 1024.
	MinRate int
	// ReadTimeout bounds how long a streamed form may take to arrive, and 15s how
	// long nothing of it may. With fiber.Config.ReadTimeout that one counts
	// instead; a ReadTimeout of app.Server() bounds all other requests and leaves
	// forms to this one. Defaults to 10m.
	ReadTimeout time.Duration
}

// DrainConfig tunes Shutdown.
type DrainConfig struct {
	// Timeout is how long the drain of Listen and Serve may take in all. Shutdown
	// goes by its context instead. Defaults to 9s: Docker kills after 10.
	Timeout time.Duration
	// NotReady is how long /ready says no before anything is refused, so that
	// load balancers turn away. Defaults to 2s, at most a fifth of the time
	// that Shutdown's context leaves; negative is not at all.
	NotReady time.Duration
	// Spread is over how long streams are cut. Defaults to 3s, at most a
	// quarter of the time left; negative cuts all at once.
	Spread time.Duration
	// RetryMin and RetryMax bound the jittered time after which a cut or
	// refused client is told to come back. Default to 1s and 5s.
	RetryMin, RetryMax time.Duration
}
