package memstore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func dir(t *testing.T) (*Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new", "uploads")
	d, err := NewDir(path)
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

func names(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestDirNames(t *testing.T) {
	d, path := dir(t)
	for _, name := range []string{"../../evil", "a.exe", ".", strings.Repeat("x", 5000), "\x00", ""} {
		a, err := d.Put(t.Context(), name, "", strings.NewReader("data"))
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if got := names(t, path); len(got) != 1 || got[0] != a.Ref || !regexp.MustCompile(`^[a-z2-7]{32}$`).MatchString(a.Ref) {
			t.Errorf("%q is stored as %q, ref %q", name, got, a.Ref)
		}
		info, err := os.Stat(filepath.Join(path, a.Ref))
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 4 {
			t.Errorf("%q is stored with %v, %v", name, info, err)
		}
		if err := d.Delete(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
	if got := names(t, path); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestDirLeavesNothingOnError(t *testing.T) {
	d, path := dir(t)
	broken := errors.New("broken")
	if _, err := d.Put(t.Context(), "a", "", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("Put gave %v", err)
	}
	if got := names(t, path); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Put(t.Context(), "a", "", strings.NewReader("x")); engine.CodeOf(err) != engine.CodeInternal || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Put into a directory that is gone gave %v", err)
	}
}

func TestDirStaysInside(t *testing.T) {
	d, path := dir(t)
	outside := filepath.Join(filepath.Dir(path), "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"../" + filepath.Base(outside), outside, "..", "", ".", strings.Repeat("a", 31) + "/", strings.Repeat("a", 31) + "\x00"} {
		if _, err := d.Open(t.Context(), engine.Attachment{Ref: ref}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q) gave %v", ref, err)
		}
		if err := d.Delete(t.Context(), engine.Attachment{Ref: ref}); err != nil {
			t.Errorf("Delete(%q) gave %v", ref, err)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

func TestNewDirErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewDir(filepath.Join(file, "below")); err == nil {
		t.Error("a directory below a file was accepted")
	}
	if _, err := NewDir(file); err == nil {
		t.Error("a file was accepted")
	}
}

func FuzzFileNames(f *testing.F) {
	for _, s := range []string{"a", "../a", `..\a`, "a/..", "", ".", "\x00/\xff", "ü/ñ"} {
		f.Add(s)
	}
	d := &Dir{path: "/base"}
	f.Fuzz(func(t *testing.T, s string) {
		if name := baseName(s); name == "" || name == "." || name == ".." || strings.ContainsAny(name, `/\`) {
			t.Errorf("%q became %q", s, name)
		}
		if path, ok := d.locate(s); ok && (filepath.Dir(path) != "/base" || filepath.Base(path) != s) {
			t.Errorf("%q became %q", s, path)
		}
	})
}

// What a process left half written goes when the next one starts, what another
// one is writing stays, and what is not ours is never touched.
func TestDirCleanup(t *testing.T) {
	d, path := dir(t)
	ref := strings.Repeat("a", 32)
	old := time.Now().Add(-100 * time.Hour)
	write := func(name string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(path, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(path, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := d.Put(t.Context(), "a", "", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	write(ref+".partial", old)
	write("b"+ref[1:]+".partial", time.Now())
	write("theirs.partial", old)
	write("c"+ref[1:], old)
	write("notes.txt", old)
	if err := os.Mkdir(filepath.Join(path, "d"+ref[1:]), 0o700); err != nil {
		t.Fatal(err)
	}
	want := func(names ...string) []string { slices.Sort(names); return names }
	if d, err = NewDir(path); err != nil {
		t.Fatal(err)
	}
	left := want(kept.Ref, "b"+ref[1:]+".partial", "theirs.partial", "c"+ref[1:], "notes.txt", "d"+ref[1:])
	if got := names(t, path); !slices.Equal(got, left) {
		t.Errorf("NewDir left %q, want %q", got, left)
	}
	// A host that runs on does the same now and then.
	write("e"+ref[1:]+".partial", old)
	d.swept.Store(time.Now().Add(-2 * partialAge).Unix())
	second, err := d.Put(t.Context(), "a", "", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if got := names(t, path); !slices.Equal(got, left) {
		t.Errorf("Put left %q, want %q", got, left)
	}
	n, err := d.RemoveOlderThan(t.Context(), 50*time.Hour)
	left = want(kept.Ref, "b"+ref[1:]+".partial", "theirs.partial", "notes.txt", "d"+ref[1:])
	if got := names(t, path); n != 1 || err != nil || !slices.Equal(got, left) {
		t.Errorf("RemoveOlderThan: %d, %v, left %q, want %q", n, err, got, left)
	}
	if _, err := d.RemoveOlderThan(t.Context(), 0); err == nil {
		t.Error("everything was to go")
	}
}
