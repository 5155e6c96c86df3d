package rueidisstore

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The fields of a record. What never changes is there in the clear, for whoever
// looks with redis-cli; decoding a cached record takes no JSON but that of open
// suspensions and attachments.
const (
	fieldVersion     = "v"  // schemaVersion
	fieldIncarnation = "id" // see keys.go
	fieldType        = "type"
	fieldOwner       = "owner"
	fieldRequest     = "req"
	fieldFingerprint = "fp"
	fieldInput       = "input"
	fieldMetadata    = "meta"
	fieldFiles       = "files" // JSON array; absent if there are none
	fieldCreated     = "created"
	fieldBorn        = "born" // Redis's time (ms) of the create
	fieldStatus      = "status"
	fieldUpdated     = "updated"
	fieldRestartable = "again"    // 1; absent if the task is not restartable
	fieldRestarts    = "restarts" // how often it was begun again; absent if never
	fieldCancel      = "cancel"   // the reason; present if requested
	fieldResolved    = "acts"     // how many suspensions were resolved; absent if none
	fieldResumed     = "resumed"  // Redis's time (ms) of the last answer
	fieldEnd         = "end"      // the terminal event, as a batch of one
	fieldEndID       = "endid"
	fieldSuspension  = "s:" // + suspendId: ordinal, ":", payload
)

// encodeRecord gives fields and values of a new record.
func encodeRecord(t engine.Task) ([]string, error) {
	pairs := []string{
		fieldVersion, schemaVersion,
		fieldIncarnation, incarnationOf(t.ID),
		fieldType, t.Type,
		fieldOwner, t.Owner,
		fieldRequest, t.ClientRequestID,
		fieldFingerprint, t.Fingerprint,
		fieldStatus, string(t.Status),
		fieldCreated, micros(t.CreatedAt),
		fieldUpdated, micros(t.UpdatedAt),
	}
	if t.Input != nil {
		pairs = append(pairs, fieldInput, string(t.Input))
	}
	if t.Metadata != nil {
		pairs = append(pairs, fieldMetadata, string(t.Metadata))
	}
	if len(t.Attachments) > 0 {
		files, err := json.Marshal(t.Attachments)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, fieldFiles, string(files))
	}
	if t.Restartable {
		pairs = append(pairs, fieldRestartable, "1")
	}
	if t.Restarts > 0 {
		pairs = append(pairs, fieldRestarts, strconv.Itoa(t.Restarts))
	}
	if t.CancelRequested {
		pairs = append(pairs, fieldCancel, t.CancelReason)
	}
	for i := range t.Suspensions {
		payload, err := json.Marshal(t.Suspensions[i])
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, fieldSuspension+t.Suspensions[i].SuspendID, "0:"+string(payload))
	}
	if ev := t.Terminal; ev != nil {
		batch := encodeBatch([]engine.Draft{{Type: ev.Type, CreatedAt: ev.CreatedAt, Payload: ev.Payload}})
		pairs = append(pairs, fieldEnd, string(batch.bytes), fieldEndID, ev.ID.String())
	}
	return pairs, nil
}

// decodeRecord reads the record under tag. An empty one is TASK_NOT_FOUND.
func decodeRecord(tag string, fields map[string]string) (engine.Task, error) {
	if fields[fieldIncarnation] == "" {
		return engine.Task{}, errNotFound()
	}
	if v := fields[fieldVersion]; v != schemaVersion {
		return engine.Task{}, damaged("read a record",
			fmt.Errorf("schema version %q; this library knows %s", v, schemaVersion))
	}
	t := engine.Task{
		ID:              tag + fields[fieldIncarnation],
		Type:            fields[fieldType],
		Owner:           fields[fieldOwner],
		ClientRequestID: fields[fieldRequest],
		Fingerprint:     fields[fieldFingerprint],
		Status:          engine.Status(fields[fieldStatus]),
	}
	t.Restartable = has(fields, fieldRestartable)
	t.CancelReason, t.CancelRequested = fields[fieldCancel], has(fields, fieldCancel)
	if has(fields, fieldInput) {
		t.Input = bytesOf(fields[fieldInput])
	}
	if has(fields, fieldMetadata) {
		t.Metadata = bytesOf(fields[fieldMetadata])
	}
	var err error
	fail := func(field string, e error) {
		if e != nil && err == nil {
			err = fmt.Errorf("field %s: %w", field, e)
		}
	}
	var e error
	t.CreatedAt, e = parseMicros(fields[fieldCreated])
	fail(fieldCreated, e)
	t.UpdatedAt, e = parseMicros(fields[fieldUpdated])
	fail(fieldUpdated, e)
	if files := fields[fieldFiles]; files != "" {
		fail(fieldFiles, json.Unmarshal(bytesOf(files), &t.Attachments))
	}
	if n := fields[fieldRestarts]; n != "" {
		t.Restarts, e = strconv.Atoi(n)
		fail(fieldRestarts, e)
	}
	t.Suspensions, e = decodeSuspensions(fields)
	fail(fieldSuspension, e)
	if end := fields[fieldEnd]; end != "" {
		t.Terminal, e = decodeEnd(t.ID, fields[fieldEndID], end)
		fail(fieldEnd, e)
	}
	if err != nil {
		return engine.Task{}, damaged("read a record", err)
	}
	return t, nil
}

func has(fields map[string]string, name string) bool {
	_, ok := fields[name]
	return ok
}

// decodeSuspensions gives the open ones, the first to open first.
func decodeSuspensions(fields map[string]string) ([]engine.Suspended, error) {
	type opened struct {
		ordinal uint64
		engine.Suspended
	}
	var open []opened
	for name, value := range fields {
		if !strings.HasPrefix(name, fieldSuspension) {
			continue
		}
		ordinal, payload, ok := strings.Cut(value, ":")
		if !ok {
			return nil, errors.New("no ordinal")
		}
		var o opened
		var err error
		if o.ordinal, err = strconv.ParseUint(ordinal, 10, 64); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(bytesOf(payload), &o.Suspended); err != nil {
			return nil, err
		}
		open = append(open, o)
	}
	slices.SortFunc(open, func(a, b opened) int { return cmp.Compare(a.ordinal, b.ordinal) })
	var list []engine.Suspended
	for _, o := range open {
		list = append(list, o.Suspended)
	}
	return list, nil
}

func decodeEnd(taskID, id, batch string) (*engine.Event, error) {
	at, err := parseID(id)
	if err != nil {
		return nil, err
	}
	events, err := decodeBatch(nil, taskID, at, batch, engine.EventID{}, 1)
	if err != nil {
		return nil, err
	}
	if len(events) != 1 {
		return nil, errCutBatch
	}
	return &events[0], nil
}

func micros(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 10) }

func parseMicros(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	return time.UnixMicro(n).UTC(), err
}

func millis(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }
