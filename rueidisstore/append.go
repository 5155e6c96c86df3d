package rueidisstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Append implements engine.EventStore: one script, one round trip. Appends that
// are made at the same time share a pipeline.
func (s *Store) Append(ctx context.Context, a engine.Append) ([]engine.EventID, error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	if !validID(a.TaskID) {
		return nil, errNotFound()
	}
	if err := checkBatch(a); err != nil {
		return nil, err
	}
	if a.Checkpoint == nil && !concernsRecord(a.Events) {
		if answer := s.appendQuickly(ctx, a); !declined(answer) {
			return readAppend(answer, len(a.Events))
		}
	}
	args, opened, err := s.appendArgs(a)
	if err != nil {
		return nil, err
	}
	keys := s.keys.ofTask(a.TaskID)
	if opened.any {
		keys = append(keys, s.keys.acts(a.TaskID))
		if err := s.listOpening(ctx, a.TaskID, opened); err != nil {
			return nil, err
		}
	}
	answer, err := s.runAppend(ctx, a, keys, args)
	if err == nil && wantsActs(answer) {
		keys = append(keys, s.keys.acts(a.TaskID))
		answer, err = s.runAppend(ctx, a, keys, args)
	}
	if err != nil {
		return nil, err
	}
	ids, err := readAppend(answer, len(a.Events))
	if engine.CodeOf(err) == engine.CodeTaskNotFound {
		s.eraseRest(ctx, a.TaskID)
	}
	if err != nil {
		return nil, err
	}
	if ends(a.Events) {
		s.unlistLater(a.TaskID)
	}
	if opened.any {
		s.listOpened(ctx, a.TaskID, opened)
	}
	return ids, nil
}

func (s *Store) runAppend(ctx context.Context, a engine.Append, keys, args []string) (rueidis.RedisResult, error) {
	if a.Checkpoint != nil {
		return s.runSave(ctx, a.Checkpoint, keys, args), nil
	}
	if s.cfg.Wait.wanted() && matters(a.Events) {
		return s.runAndWait(ctx, appendWaiting, keys, args)
	}
	ctx, done := s.boundAppend(ctx)
	defer done()
	return appendScript.exec(ctx, s.client, taskKeys, keys, args), nil
}

// concernsRecord reports whether a batch changes more than its log.
func concernsRecord(drafts []engine.Draft) bool {
	for i := range drafts {
		switch t := drafts[i].Type; {
		case t.StatusAfter() != "", t == engine.TypeSuspended, t == engine.TypeActionAccepted:
			return true
		}
	}
	return false
}

// appendQuickly is for batches that concern the log alone.
func (s *Store) appendQuickly(ctx context.Context, a engine.Append) rueidis.RedisResult {
	ctx, done := s.boundAppend(ctx)
	defer done()
	token := shortToken(a.Token)
	return s.quick.Exec(ctx, s.client,
		[]string{s.keys.log(a.TaskID), s.keys.state(a.TaskID)},
		[]string{encodeBatch(a.Events).text(), token + printOf(token), strconv.Itoa(len(a.Events)), strconv.FormatUint(a.Fence, 10)})
}

// declined reports whether append_quick.lua, which has written nothing, leaves
// the batch to append.lua.
func declined(answer rueidis.RedisResult) bool {
	m, err := answer.ToMessage()
	return err == nil && m.IsInt64()
}

// wantsActs reports whether a script, which has written nothing, asks for the
// task's acts.
func wantsActs(answer rueidis.RedisResult) bool {
	m, err := answer.ToMessage()
	if err != nil || !m.IsInt64() {
		return false
	}
	code, _ := m.AsInt64()
	return code == -4
}

func checkBatch(a engine.Append) error {
	if a.Token == "" {
		return engine.NewError(engine.CodeInternal, "rueidisstore: append without a token")
	}
	if len(a.Events) == 0 && a.Checkpoint == nil {
		return engine.NewError(engine.CodeInternal, "rueidisstore: append without events")
	}
	for _, d := range a.Events[:max(len(a.Events)-1, 0)] {
		if d.Type.Terminal() {
			return engine.NewError(engine.CodeInternal, "rueidisstore: a terminal event that is not the last of its batch")
		}
	}
	if n := len(a.Events); n > 0 && a.Checkpoint != nil && a.Events[n-1].Type.Terminal() {
		return engine.NewError(engine.CodeInternal, "rueidisstore: a checkpoint with a terminal event")
	}
	return nil
}

// ends reports whether a batch ends its task.
func ends(drafts []engine.Draft) bool {
	return len(drafts) > 0 && drafts[len(drafts)-1].Type.Terminal()
}

// maxToken is the longest token that Redis keeps as it is.
const maxToken = 64

// shortToken bounds what a token takes in Redis. The scripts cannot format a
// zero byte.
func shortToken(token string) string {
	if len(token) <= maxToken && strings.IndexByte(token, 0) < 0 {
		return token
	}
	sum := sha256.Sum256([]byte(token))
	return "#" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// printOf is a print of a token: two bytes, none of them zero.
func printOf(token string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(token))
	sum := h.Sum32()
	return string([]byte{byte(sum%255 + 1), byte(sum/255%255 + 1)})
}

// matters reports whether a batch has an event that Config.Wait is for.
func matters(drafts []engine.Draft) bool {
	for i := range drafts {
		if t := drafts[i].Type; t.Terminal() || t == engine.TypeActionAccepted {
			return true
		}
	}
	return false
}

// appendArgs are the arguments of append.lua.
func (s *Store) appendArgs(a engine.Append) (args []string, opened opening, err error) {
	batch := encodeBatch(a.Events)
	wait := ""
	if s.cfg.Wait.wanted() && matters(a.Events) {
		wait = "1"
	}
	fence := ""
	if a.Fence != 0 {
		fence = strconv.FormatUint(a.Fence, 10)
	}
	args = make([]string, 0, 20)
	token := shortToken(a.Token)
	args = append(args,
		incarnationOf(a.TaskID), token, printOf(token), strconv.Itoa(len(a.Events)), batch.text(),
		s.maxStreamLength, s.maxStreamBytes, wait, fence)

	var status engine.Status
	var changes []string
	for i, d := range a.Events {
		if st := d.Type.StatusAfter(); st != "" {
			status = st
		}
		switch d.Type {
		case engine.TypeSuspended:
			var suspended engine.Suspended
			if err := json.Unmarshal(d.Payload, &suspended); err != nil {
				return nil, opened, badPayload(d.Type, err)
			}
			allowed, err := encodeAllowed(suspended)
			if err != nil {
				return nil, opened, badPayload(d.Type, err)
			}
			standard, err := encodeDefault(d.Default)
			if err != nil {
				return nil, opened, badPayload(d.Type, err)
			}
			at, expires := batch.payloads[i], expiryMillis(suspended)
			changes = append(changes, "o", suspended.SuspendID,
				strconv.Itoa(i+1), strconv.Itoa(at.from), strconv.Itoa(at.to),
				formatMillis(expires), allowed, standard)
			opened.add(expires)
		case engine.TypeActionAccepted:
			var closed engine.ActionAccepted
			if err := json.Unmarshal(d.Payload, &closed); err != nil {
				return nil, opened, badPayload(d.Type, err)
			}
			changes = append(changes, "c", closed.SuspendID)
		case engine.TypeStarted:
			var begun engine.Started
			if err := json.Unmarshal(d.Payload, &begun); err != nil {
				return nil, opened, badPayload(d.Type, err)
			}
			if begun.Restarts > 0 {
				changes = append(changes, "r", strconv.Itoa(begun.Restarts))
			}
		}
	}
	if status == "" && changes == nil {
		return args, opened, nil
	}
	end := ""
	if ends(a.Events) {
		end = strconv.Itoa(batch.last)
	}
	room := ""
	if opened.any {
		room = strconv.Itoa(s.cfg.Actions.MaxOpen - opened.count)
	}
	args = append(args, string(status), micros(time.Now()), end, millis(s.cfg.StreamTTL), millis(s.cfg.recordTTL()),
		millis(s.cfg.Actions.TTL), room)
	return append(args, changes...), opened, nil
}

func badPayload(t engine.EventType, err error) error {
	return engine.Errorf(engine.CodeInternal, "rueidisstore: a %s payload that cannot be read", t).WithCause(err)
}

// readAppend reads what append.lua gives for n events.
func readAppend(answer rueidis.RedisResult, n int) ([]engine.EventID, error) {
	m, err := answer.ToMessage()
	if err != nil {
		return nil, classify("append", err)
	}
	if m.IsInt64() {
		switch code, _ := m.AsInt64(); code {
		case -1:
			return nil, engine.NewError(engine.CodeTaskAlreadyTerminal, "the task is over")
		case -2:
			return nil, damaged("append", errors.New("log and state of an open task are gone; does Redis evict keys?"))
		case -3:
			return nil, errConflict()
		case -5:
			return nil, engine.NewError(engine.CodeInvalidTaskState, "the task has too many open suspensions")
		}
		return nil, errNotFound()
	}
	text, err := m.ToString()
	if err != nil {
		return nil, damaged("append", err)
	}
	// A repeat may have come with another batch; the first one's ids count.
	text, count, repeated := strings.Cut(text, ":")
	if repeated {
		if n, err = strconv.Atoi(count); err != nil {
			return nil, damaged("append", err)
		}
	}
	last, err := parseID(text)
	if err != nil {
		return nil, damaged("append", err)
	}
	ids := make([]engine.EventID, n)
	for i := range ids {
		ids[i] = engine.EventID{Millis: last.Millis, Ordinal: last.Ordinal - uint64(n-1-i)}
	}
	return ids, nil
}
