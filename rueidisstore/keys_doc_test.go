package rueidisstore

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// documentedKey is a row of the table of keys in docs/redis.md.
type documentedKey struct {
	text string // as it stands there
	name *regexp.Regexp
	kind string // what TYPE says
}

func documentedKeys(t *testing.T, prefix string) []documentedKey {
	t.Helper()
	page, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Keys\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows []documentedKey
	for _, m := range regexp.MustCompile("(?m)^\\| `(P:[^`]+)`[^|]*\\| ([a-z ]+?) \\|").FindAllStringSubmatch(section, -1) {
		pattern := regexp.QuoteMeta(m[1])
		for _, replace := range [][2]string{
			{"P:", regexp.QuoteMeta(prefix) + ":"},
			{"tag", "[a-z2-7]{24}"},
			{":incarnation:", ":[a-z2-7]{8}:"},
			{":0", ":[0-9]+"},
			{":held:name", ":held:[a-z2-7]{32}"},
		} {
			pattern = strings.Replace(pattern, replace[0], replace[1], 1)
		}
		kind := map[string]string{"sorted set": "zset"}[m[2]]
		if kind == "" {
			kind = m[2]
		}
		rows = append(rows, documentedKey{m[1], regexp.MustCompile("^" + pattern + "$"), kind})
	}
	if len(rows) == 0 {
		t.Fatal("docs/redis.md has no table of keys")
	}
	return rows
}

// TestKeyTableIsWhole uses everything and compares the keys that are there with
// the table of docs/redis.md, both ways, names and types.
func TestKeyTableIsWhole(t *testing.T) {
	t.Parallel()
	const prefix = "table"
	server := redistest.Server(t, documentedRightsFor(t, prefix, "`Config.Subjects`"))
	cfg := Config{
		Redis: rueidis.ClientOption{InitAddress: []string{server.Addr()}}, Prefix: prefix, Subjects: SubjectConfig{MaxTasks: 1000},
	}
	useEverything(t, cfg, server)
	leaveSomething(t, cfg)

	rows := documentedKeys(t, prefix)
	found := map[string]bool{}
	keys, _ := server.Must("KEYS", "*").([]any)
	if len(keys) == 0 {
		t.Fatal("the server has no keys")
	}
	for _, k := range keys {
		key, _ := k.(string)
		kind, _ := server.Must("TYPE", key).(string)
		known := false
		for _, row := range rows {
			if row.name.MatchString(key) {
				known = true
				found[row.text] = true
				if row.kind != kind {
					t.Errorf("%s is a %s, in docs/redis.md a %s", key, kind, row.kind)
				}
			}
		}
		if !known {
			t.Errorf("%s (%s) is not in docs/redis.md", key, kind)
		}
	}
	for _, row := range rows {
		if !found[row.text] {
			t.Errorf("docs/redis.md names %s, and nothing makes such a key", row.text)
		}
	}
}

// leaveSomething leaves one of each key that useEverything cleans up.
func leaveSomething(t *testing.T, cfg Config) {
	t.Helper()
	cfg.Redis.Username, cfg.Redis.Password = "app", "pw"
	s := MustNew(t, cfg)
	defer s.Close()
	ctx := t.Context()
	now := toMicros(time.Now())
	task, _, err := s.Create(ctx, engine.Task{
		Owner: "ann", ClientRequestID: "left", Type: "t", Status: engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	fence, err := s.Acquire(ctx, task.ID, "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(ctx, engine.Append{TaskID: task.ID, Token: "left", Fence: fence, Events: []engine.Draft{
		suspension("s", time.Now().Add(time.Hour)),
	}}); err != nil {
		t.Fatal(err)
	}
	r := engine.Revocation{ID: "r", TaskID: task.ID, ExpiresAt: time.Now().Add(time.Minute)}
	if err := s.PutRevocation(ctx, r, 10); err != nil {
		t.Fatal(err)
	}
	for shard := range dueShards {
		if err := s.workOff(ctx, shard, "me"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeyTableKnowsEveryName holds the methods that name keys against the same
// table, for keys that a run of everything might not leave behind.
func TestKeyTableKnowsEveryName(t *testing.T) {
	k := newKeyspace("p")
	id := strings.Repeat("a", tagLength) + strings.Repeat("b", incarnationLength)
	names := map[string]string{
		"task": k.task(id), "record": k.record(tagOf(id)), "log": k.log(id), "state": k.state(id), "hold": k.hold(id), "acts": k.acts(id),
		"due": k.due(3), "lease": k.lease(3), "leases": k.leases(3), "actions": k.actions(3), "proof": k.proof(3), "secret": k.secret(), "schema": k.schema(),
		"revocations": k.revocations(), "revocationTimes": k.revocationTimes(),
	}
	rows := documentedKeys(t, "p")
	for method, key := range names {
		known := false
		for _, row := range rows {
			known = known || row.name.MatchString(key)
		}
		if !known {
			t.Errorf("%s gives %s, which is not in docs/redis.md", method, key)
		}
	}
	for _, method := range keyMethods(t) {
		if names[method] == "" {
			t.Errorf("the method %s of keyspace is not looked at here: add it", method)
		}
	}
}

// keyMethods returns the methods of keyspace that return one key.
func keyMethods(t *testing.T) (found []string) {
	t.Helper()
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Type.Results == nil || len(f.Type.Results.List) != 1 {
				continue
			}
			receiver, ok := f.Recv.List[0].Type.(*ast.Ident)
			result, isIdent := f.Type.Results.List[0].Type.(*ast.Ident)
			if ok && receiver.Name == "keyspace" && isIdent && result.Name == "string" {
				found = append(found, f.Name.Name)
			}
		}
	}
	if len(found) == 0 {
		t.Fatal("keyspace has no methods")
	}
	return found
}
