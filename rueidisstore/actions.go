package rueidisstore

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var (
	//go:embed resolve_check.lua
	resolveCheckSource string
	//go:embed resolve_keep.lua
	resolveKeepSource string
	//go:embed actions_handed.lua
	actionsHandedSource string
	//go:embed actions_adopt.lua
	actionsAdoptSource string

	// An answer is appended by the very text that appends everything else.
	resolveSource = resolveCheckSource + "local function append()\n" + appendSource + "\nend\n" + resolveKeepSource

	resolveScript       = rueidis.NewLuaScript(resolveSource)
	actionsHandedScript = rueidis.NewLuaScript(actionsHandedSource)
	actionsAdoptScript  = rueidis.NewLuaScript(actionsAdoptSource)
)

var _ engine.ActionStore = (*Store)(nil)

// acts is a HASH: the suspensions of a task and the answers to them; see
// actions_record.go.
func (k keyspace) acts(id string) string {
	return k.versioned + "{" + tagOf(id) + "}:" + incarnationOf(id) + ":acts"
}

// ofActs are the keys that scripts about suspensions take.
func (k keyspace) ofActs(id string) []string { return []string{k.task(id), k.acts(id)} }

// Suspension implements engine.ActionStore: one round trip. The record comes
// first, so that what the acts say is not older than it.
func (s *Store) Suspension(ctx context.Context, taskID, suspendID string) (engine.Suspension, error) {
	if s.isClosed() {
		return engine.Suspension{}, errClosed()
	}
	if !validID(taskID) {
		return engine.Suspension{}, errNotFound()
	}
	ctx, done := s.bound(ctx)
	defer done()
	b := s.client.B
	answers := s.client.DoMulti(ctx,
		b().Hmget().Key(s.keys.task(taskID)).Field(fieldIncarnation, fieldStatus, fieldSuspension+suspendID).Build(),
		b().Hmget().Key(s.keys.acts(taskID)).Field("m:"+suspendID, "p:"+suspendID, "y:"+suspendID, "d:"+suspendID).Build(),
	)
	var fields [2][]string
	for i, n := range []int{3, 4} {
		m, err := answers[i].ToMessage()
		if err == nil {
			fields[i], err = textsOf(m, n)
		}
		if err != nil {
			return engine.Suspension{}, classify("read a suspension", err)
		}
	}
	record, act := fields[0], fields[1]
	if record[0] != incarnationOf(taskID) {
		return engine.Suspension{}, errNotFound()
	}
	if act[0] == "" {
		if record[2] == "" {
			return engine.Suspension{}, engine.NewError(engine.CodeTaskNotFound, "suspension not found")
		}
		act[0], act[1] = actOpen+":", record[2][strings.IndexByte(record[2], ':')+1:]
	}
	found, err := decodeSuspension(act[0], act[1], act[2], act[3])
	if err != nil {
		return engine.Suspension{}, damaged("read a suspension", err)
	}
	if engine.Status(record[1]).Terminal() {
		found.Open = false
	}
	return found, nil
}

// Resolve implements engine.ActionStore: one script, after a round trip to the
// index, so that a hand-off cannot be forgotten.
func (s *Store) Resolve(ctx context.Context, r engine.Resolution) (engine.Verdict, error) {
	if s.isClosed() {
		return 0, errClosed()
	}
	if !validID(r.TaskID) {
		return 0, errNotFound()
	}
	args, err := s.resolveArgs(r)
	if err != nil {
		return 0, err
	}
	if r.Action != nil {
		if err := s.listActions(ctx, lookAt{taskID: r.TaskID, atLeast: max(s.inFlight(), handOffGrace)}); err != nil {
			return 0, classify("list a hand-off", err)
		}
	}
	keys := append(s.keys.ofTask(r.TaskID), s.keys.acts(r.TaskID))
	for range 2 {
		answer, err := s.runResolve(ctx, keys, args)
		if err != nil {
			return 0, err
		}
		verdict, err := readResolve(answer)
		if errors.Is(err, errActsMissing) {
			if err := s.adopt(ctx, r.TaskID); err != nil {
				return 0, classify("resolve a suspension", err)
			}
			continue
		}
		if err == nil && verdict == engine.VerdictAccepted && r.Event.Type.Terminal() {
			s.unlistLater(r.TaskID)
		}
		return verdict, err
	}
	return 0, damaged("resolve a suspension", errActsMissing)
}

func (s *Store) runResolve(ctx context.Context, keys, args []string) (rueidis.RedisResult, error) {
	if s.cfg.Wait.wanted() {
		return s.runAndWait(ctx, resolveWaiting, keys, args)
	}
	ctx, done := s.bound(ctx)
	defer done()
	return resolveScript.Exec(ctx, s.client, keys, args), nil
}

// resolveArgs are the arguments of resolve_check.lua and append.lua.
func (s *Store) resolveArgs(r engine.Resolution) ([]string, error) {
	drafts := []engine.Draft{r.Event}
	// A token of no use to anybody: receipts tell a repeat.
	appended, _, err := s.appendArgs(engine.Append{TaskID: r.TaskID, Token: rand.Text(), Events: drafts})
	if err != nil {
		return nil, err
	}
	var actionType, actionID, answer string
	if r.Action != nil {
		actionType = "=" + r.Action.ActionType
		if !r.Expiry {
			actionID = r.Action.ClientActionID
		}
		if answer, err = encodeAction(*r.Action); err != nil {
			return nil, damaged("encode an answer", err)
		}
	}
	wait := ""
	if s.cfg.Wait.wanted() {
		wait = "1"
	}
	args := append(make([]string, 0, 32),
		incarnationOf(r.TaskID), r.SuspendID, flag(r.Expiry), actionType, actionID, r.Fingerprint, flag(r.Unfit),
		answer, millis(handOffGrace), s.maxResolved, wait)
	return append(args, appended...), nil
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return ""
}

// errActsMissing: the record has the suspension, and the acts do not.
var errActsMissing = errors.New("the acts of a task are not there; does Redis evict keys?")

func readResolve(answer rueidis.RedisResult) (engine.Verdict, error) {
	m, err := answer.ToMessage()
	if err != nil {
		return 0, classify("resolve a suspension", err)
	}
	if !m.IsInt64() {
		return engine.VerdictAccepted, nil
	}
	switch code, _ := m.AsInt64(); {
	case code >= 0 && code < int64(engine.VerdictAccepted):
		return engine.Verdict(code), nil
	case code == -10:
		return 0, errNotFound()
	case code == -11:
		return 0, errActsMissing
	}
	_, err = readAppend(answer, 1)
	return 0, err
}

// HandedOver implements engine.ActionStore.
func (s *Store) HandedOver(ctx context.Context, taskID, suspendID string, fence uint64) error {
	if s.isClosed() {
		return errClosed()
	}
	if !validID(taskID) {
		return nil
	}
	ctx, done := s.bound(ctx)
	defer done()
	keys, args := []string{s.keys.acts(taskID)}, []string{suspendID}
	if fence != 0 {
		keys, args = append(keys, s.keys.hold(taskID)), append(args, strconv.FormatUint(fence, 10))
	}
	n, err := actionsHandedScript.Exec(ctx, s.client, keys, args).AsInt64()
	if err == nil && n == -3 {
		return errConflict()
	}
	return classify("note a hand-off", err)
}

// adopt puts into the acts what only the record knows.
func (s *Store) adopt(ctx context.Context, taskID string) error {
	task, err := s.Get(ctx, taskID, engine.Fresh)
	if err != nil {
		return err
	}
	args := []string{incarnationOf(taskID)}
	for _, open := range task.Suspensions {
		allowed, err := encodeAllowed(open)
		if err != nil {
			return err
		}
		args = append(args, open.SuspendID, formatMillis(expiryMillis(open)), allowed)
	}
	ctx, done := s.bound(ctx)
	defer done()
	return actionsAdoptScript.Exec(ctx, s.client, s.keys.ofActs(taskID), args).Error()
}
