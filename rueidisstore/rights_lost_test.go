package rueidisstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// An operator takes a right away under load, or the password, and gives it back:
// whatever was being done says so and can be done again, nothing is half made, and
// no event is lost, doubled or numbered twice.
func TestRightsTakenAway(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.User("app", "on >pw ~* &* +@all"))
	b := openAt(t, server, func(c *Config) { c.Redis.Username, c.Redis.Password = "app", "pw" })
	change := func(rules ...string) {
		t.Helper()
		server.Must(append([]string{"ACL", "SETUSER", "app"}, rules...)...)
	}
	// A script that is not known is sent: with EVAL, which has rights of its own.
	task := b.create()
	b.append(task.ID, message("first"))
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()

	refused := func(what string, err error, because ...string) {
		t.Helper()
		if engine.CodeOf(err) != engine.CodeStoreUnavailable {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, word := range because {
			if strings.Contains(err.Error(), word) {
				return
			}
		}
		t.Errorf("%s: %v does not say %v", what, err, because)
	}
	denied := append([]string{"NOPERM"}, refusedScript...)
	for _, c := range []struct {
		without, with        []string
		appends, asks, makes bool // are refused
	}{
		{without: []string{"-xadd"}, with: []string{"+xadd"}, appends: true, asks: true, makes: true},
		{without: []string{"-set"}, with: []string{"+set"}, appends: true, asks: true, makes: true},
		{without: []string{"-get"}, with: []string{"+get"}, appends: true, asks: true},
		{without: []string{"-hset"}, with: []string{"+hset"}, makes: true},
		{without: []string{"-evalsha"}, with: []string{"+evalsha"}, appends: true, asks: true, makes: true},
		{without: []string{"-@write"}, with: []string{"+@all"}, appends: true, asks: true, makes: true},
		{without: []string{"-@all"}, with: []string{"+@all"}, appends: true, asks: true, makes: true},
		{without: []string{"resetkeys", "~other:*"}, with: []string{"~*"}, appends: true, asks: true, makes: true},
	} {
		name := strings.Join(c.without, " ")
		quick := engine.Append{TaskID: task.ID, Token: b.token(), Events: []engine.Draft{message(name)}}
		slow := engine.Append{TaskID: task.ID, Token: b.token(), Events: []engine.Draft{suspensionOf(name)}}
		request := named("new " + name)
		change(c.without...)
		if _, err := b.Append(t.Context(), quick); c.appends {
			refused("append "+name, err, denied...)
		} else if err != nil {
			t.Error(name, err)
		}
		if c.asks {
			_, err := b.Append(t.Context(), slow)
			refused("ask "+name, err, denied...)
		}
		if c.makes {
			_, _, err := b.Create(t.Context(), request)
			refused("create "+name, err, denied...)
			if there := server.Must("EXISTS", b.keys.record(deriveTag(*b.secret.Load(), request.Owner, request.ClientRequestID))); there != int64(0) {
				t.Errorf("create %s: there is a record", name)
			}
		}
		change(c.with...)
		for _, a := range []engine.Append{quick, slow} {
			if _, err := b.Append(t.Context(), a); err != nil {
				t.Errorf("again %s: %v", name, err)
			}
		}
		if c.makes {
			made, created, err := b.Create(t.Context(), request)
			if err != nil || !created {
				t.Fatalf("create %s again: created %v, %v", name, created, err)
			}
			b.append(made.ID, completed())
		}
	}

	again := engine.Append{TaskID: task.ID, Token: b.token(), Events: []engine.Draft{message("password")}}
	change("resetpass", ">new")
	server.CutConnections()
	_, err := b.Append(t.Context(), again)
	refused("append with an old password", err, "WRONGPASS", "NOAUTH", "NOPERM", "EOF", "closed", "reset")
	eventually(t, "it is said", func() bool {
		_, err := b.Append(t.Context(), again)
		return err != nil && strings.Contains(err.Error(), "WRONGPASS")
	})
	change("resetpass", ">pw")
	eventually(t, "the old password", func() bool {
		_, err := b.Append(t.Context(), again)
		return err == nil
	})

	last := b.append(task.ID, completed())[0]
	eventually(t, "all events", func() bool { at, _, lost := w.state(); return at == last && lost == 0 })
	page := b.read(task.ID, engine.EventID{}, 100)
	if want := 1 + 8*2 + 2; len(page.Events) != want {
		t.Errorf("%d events, want %d", len(page.Events), want)
	}
	for i, e := range page.Events {
		if e.ID.Ordinal != uint64(i+1) {
			t.Fatalf("event %d is %v", i+1, e.ID)
		}
	}
	if _, n, _ := w.state(); n != len(page.Events) {
		t.Errorf("the follower has %d of %d events", n, len(page.Events))
	}
}

func suspensionOf(name string) engine.Draft {
	return draft(engine.TypeSuspended, fmt.Sprintf(`{"suspendId":%q,"allowedActions":["a"]}`, name))
}
