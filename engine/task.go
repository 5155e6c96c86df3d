package engine

import (
	"encoding/json"
	"time"
)

// Status is where a task stands: ACCEPTED, RUNNING, then one of the three
// terminal ones. ACCEPTED may also go straight to FAILED or CANCELLED.
type Status string

// The statuses of a task.
const (
	StatusAccepted  Status = "ACCEPTED"
	StatusRunning   Status = "RUNNING"
	StatusCompleted Status = "COMPLETED"
	StatusFailed    Status = "FAILED"
	StatusCancelled Status = "CANCELLED"
)

// Terminal reports whether nothing can follow.
func (s Status) Terminal() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCancelled
}

// Task is the record of a task: what does not change with every event. A store
// writes it on create, on a change of status, on a request to cancel, and when
// a suspension opens or closes.
//
// A Task is a value; whoever gets one may keep it. The slices in it are shared
// and must not be written to.
type Task struct {
	// ID matches [a-z0-9]{16,64}; the store chooses it.
	ID   string
	Type string
	// Owner is the subject that created the task. Owner and ClientRequestID
	// name a task a second time.
	Owner           string
	ClientRequestID string
	// Fingerprint stands for the content of the create request: two requests
	// are equal exactly if their fingerprints are.
	Fingerprint string
	// Input and Metadata are JSON objects as the client sent them.
	Input       json.RawMessage
	Metadata    json.RawMessage
	Attachments []Attachment
	// Restartable says that the task may be run again from its beginning if its
	// worker is lost; see [Restarter].
	Restartable bool
	// OpenWithin is only for TaskRegistry.Create: how long a store with Leases
	// lets the task wait for somebody to acquire it before it is an orphan. Zero
	// sets no limit. It is not kept.
	OpenWithin time.Duration

	// Restarts is how often the task was begun again: the restarts of the last
	// TASK_STARTED. Append sets it.
	Restarts int

	Status    Status
	CreatedAt time.Time
	UpdatedAt time.Time

	// CancelRequested says that somebody asked; CancelReason is the first
	// one's reason.
	CancelRequested bool
	CancelReason    string

	// Suspensions are the open ones, oldest first.
	Suspensions []Suspended

	// Terminal is the event that ended the task. It is kept here too, so that
	// it outlives the log. Nil while the task is open.
	Terminal *Event
}

// Attachment describes one uploaded file.
type Attachment struct {
	// Name is the file's name without any directory.
	Name        string `json:"name"`
	ContentType string `json:"contentType"`
	Size        int64  `json:"size"`
	// SHA256 is the lower-case hex digest of the bytes.
	SHA256 string `json:"sha256"`
	// Ref is what the AttachmentStore calls it.
	Ref string `json:"ref"`
}
