package rueidisstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// TestPasswordRotation follows docs/deploying.md: the user gets a second
// password, the secret changes, the first password goes. A store that reads the
// secret at each connection lives on, tail included; one with a fixed password
// does not get past the next cut.
func TestPasswordRotation(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.User("app", "on >old allkeys allchannels +@all"))
	secret := filepath.Join(t.TempDir(), "redis-password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	reading := MustNew(t, Config{Prefix: "reading", Redis: rueidis.ClientOption{
		InitAddress: []string{server.Addr()},
		AuthCredentialsFn: func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			password, err := os.ReadFile(secret)
			return rueidis.AuthCredentials{Username: "app", Password: strings.TrimSpace(string(password))}, err
		},
	}})
	fixed := MustNew(t, Config{Prefix: "fixed", Redis: rueidis.ClientOption{
		InitAddress: []string{server.Addr()}, Username: "app", Password: "old",
	}})
	defer reading.Close()
	defer fixed.Close()
	create := func(s *Store, id string) (engine.Task, error) {
		now := toMicros(time.Now())
		task, _, err := s.Create(t.Context(), engine.Task{
			Owner: "ann", ClientRequestID: id, Type: "t", Status: engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
		})
		return task, err
	}
	task, err := create(reading, "before")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{tb: t, taskID: task.ID}
	stop, err := reading.Follow(t.Context(), task.ID, engine.EventID{}, w)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	server.Must("ACL", "SETUSER", "app", ">new")
	write("new")
	server.Must("ACL", "SETUSER", "app", "<old")
	if _, err := create(fixed, "open connections go on"); err != nil {
		t.Errorf("a connection that is open was refused: %v", err)
	}
	server.CutConnections()

	eventually(t, "an append", func() bool {
		_, err := reading.Append(t.Context(), engine.Append{TaskID: task.ID, Token: "1", Events: []engine.Draft{message("m")}})
		return err == nil
	})
	eventually(t, "its event", func() bool { _, n, lost := w.state(); return n == 1 && lost == 0 })
	eventually(t, "the fixed password is refused", func() bool {
		_, err := create(fixed, "after")
		return err != nil && strings.Contains(err.Error(), "WRONGPASS")
	})
}
