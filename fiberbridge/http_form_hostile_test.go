package fiberbridge

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Forms that are made to cost more than they weigh are refused.
func TestCreateFormHostile(t *testing.T) {
	const boundary = "b"
	begin := "--b\r\nContent-Disposition: form-data; name=clientRequestId\r\n\r\nr\r\n" +
		"--b\r\nContent-Disposition: form-data; name=taskType\r\n\r\nt\r\n"
	const end = "--b--\r\n"
	file := func(disposition, contentType string) string {
		return "--b\r\nContent-Disposition: form-data; name=attachment; " + disposition + "\r\nContent-Type: " + contentType + "\r\n\r\nx\r\n"
	}
	var lines strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&lines, "h%d:\r\n", i)
	}
	b := bareBridge(t, nil)
	for name, tc := range map[string]struct {
		body string
		code engine.Code
	}{
		"as many parts as may be": {begin + strings.Repeat("--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n", formParts-3) + end, ""},
		"many parts":              {begin + strings.Repeat("--b\r\n\r\n\r\n", 400_000) + end, engine.CodeInvalidRequest},
		"many parts of a name": {begin + strings.Repeat("--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n", 50_000) + end,
			engine.CodeInvalidRequest},
		"many files":           {begin + strings.Repeat(file("filename=a", "text/plain"), 500) + end, engine.CodeUploadValidation},
		"many lines in a head": {begin + "--b\r\n" + lines.String() + "\r\n\r\n" + end, engine.CodeInvalidRequest},
		"a head without end":   {begin + "--b\r\nX: " + strings.Repeat("x", 12<<20), engine.CodeInvalidRequest},
		"a long file name":     {begin + file("filename="+strings.Repeat("x", 50<<10), "text/plain") + end, engine.CodeUploadValidation},
		"a long type":          {begin + file("filename=a", "text/"+strings.Repeat("x", 50<<10)) + end, engine.CodeUploadValidation},
		"an endless file name": {begin + file("filename="+strings.Repeat("x", 2<<20), "text/plain") + end, engine.CodeInvalidRequest},
		"much before it":       {strings.Repeat("x\r\n", 1<<20) + begin + end, engine.CodeInvalidRequest},
		"long fields": {begin + "--b\r\nContent-Disposition: form-data; name=input\r\n\r\n" + strings.Repeat(" ", 4<<20) + "{}\r\n" + end,
			engine.CodeInvalidRequest},
		"a field many times": {begin + strings.Repeat("--b\r\nContent-Disposition: form-data; name=input\r\n\r\n{}\r\n", 900) + end,
			engine.CodeInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			_, done, err := readTestForm(b, []byte(tc.body), "multipart/form-data; boundary="+boundary)
			defer done()
			if got := engine.CodeOf(err); got != tc.code {
				t.Errorf("%q: %v", got, err)
			}
		})
	}
}

// What a streamed form has beyond the memory's share is in a file without a
// name, which goes with the request or with the process.
func TestCreateFormTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	left := func() int {
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	parts := []part{{name: "clientRequestId", value: "r"}, {name: "taskType", value: "t"}}
	var want []string
	for i := range 5 {
		content := strings.Repeat(string(rune('a'+i)), 300_000*(i+1)%700_000)
		parts = append(parts, part{fileFields[i%2], fmt.Sprint(i), "", content})
		want = append(want, content)
	}
	body, ct := writeForm(t, parts...)
	b := bareBridge(t, nil)
	app := fiber.New()
	for name, cut := range map[string]int{"whole": len(body), "cut off": len(body) - 100_000} {
		t.Run(name, func(t *testing.T) {
			c := bareCtx(app, ct)
			defer app.ReleaseCtx(c)
			c.Request().SetBodyStream(bytes.NewReader(body[:cut]), -1)
			_, params, err := contentType(c)
			if err != nil {
				t.Fatal(err)
			}
			req, done, err := b.createForm(c, &engine.AuthContext{Subject: "alice"}, params["boundary"])
			if left() != 0 && runtime.GOOS != "windows" {
				t.Errorf("%d files", left())
			}
			if cut < len(body) {
				if engine.CodeOf(err) != engine.CodeInvalidRequest {
					t.Error(err)
				}
			} else if err != nil || len(req.Files) != len(want) {
				t.Errorf("%d files, %v", len(req.Files), err)
			}
			for i, f := range req.Files {
				for range 2 { // once for the digest, once to keep it
					r, err := f.Open()
					if err != nil {
						t.Fatal(err)
					}
					if got, err := io.ReadAll(r); err != nil || string(got) != want[i] || f.Size != int64(len(got)) {
						t.Errorf("file %d: %d bytes, want %d, %v", i, len(got), len(want[i]), err)
					}
					_ = r.Close()
				}
			}
			done()
			if left() != 0 {
				t.Error("the file is left")
			}
		})
	}
	t.Run("no room for it", func(t *testing.T) {
		t.Setenv("TMPDIR", filepath.Join(dir, "missing"))
		c := bareCtx(app, ct)
		defer app.ReleaseCtx(c)
		c.Request().SetBodyStream(bytes.NewReader(body), -1)
		_, params, _ := contentType(c)
		_, done, err := b.createForm(c, &engine.AuthContext{Subject: "alice"}, params["boundary"])
		defer done()
		if engine.CodeOf(err) != engine.CodeInternal {
			t.Error(err)
		}
	})
}
