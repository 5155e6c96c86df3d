package fiberbridge_test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// In whichever way a form gets here, no file of it is passed over.
func TestEveryFileIsTakenOrRefused(t *testing.T) {
	for way, cfg := range bodyWays {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHTTPHost(t, func(o *hostOptions) { o.fiber = cfg })
			base, client := h.listen(t)
			for disposition, want := range map[string]string{
				`name="file"; filename="a.pdf"`:           `"field":"file"`,
				`name="attachment"; filename="a"b.txt"`:   `"field":"attachment"`,
				`name="attachment[]"; filename="a.txt"`:   "",
				`name="attachments[1]"; filename="a.txt"`: "",
			} {
				if want == `"field":"attachment"` && cfg.StreamRequestBody && !cfg.DisablePreParseMultipartForm {
					continue // lost by Fiber's own parser; Mount warns of it
				}
				body := "--b\r\nContent-Disposition: form-data; name=clientRequestId\r\n\r\n" + disposition[:22] + "\r\n" +
					"--b\r\nContent-Disposition: form-data; name=taskType\r\n\r\nwords\r\n" +
					"--b\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\nx\r\n--b--\r\n"
				r := upload(t, client, base, strings.NewReader(body), "multipart/form-data; boundary=b")
				if want == "" && r.status != 201 ||
					want != "" && (r.status != 400 || r.code() != engine.CodeUploadValidation || !strings.Contains(r.body, want)) {
					t.Errorf("%s: %v", disposition, r)
				}
			}
		})
	}
}

// The host's own routes read forms as before, and an app that is mounted in
// another one is covered too.
func TestFormsOfTheHostsOwn(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, nil)
	outer := fiber.New(fiber.Config{DisableStartupMessage: true})
	outer.Mount("/sub", h.app)
	outer.Post("/own", func(c *fiber.Ctx) error {
		file, err := c.FormFile("photo")
		if err != nil {
			return err
		}
		return c.SendString(file.Filename + " " + c.FormValue("title"))
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- outer.Listener(ln) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(func() {
		if err := outer.ShutdownWithTimeout(enough); err != nil {
			t.Error(err)
		}
		<-done
	})
	post := func(path, body string) reply {
		req := newRequest("POST", "http://"+ln.Addr().String()+path, body)
		req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return read(t, resp)
	}
	const title = "--b\r\nContent-Disposition: form-data; name=title\r\n\r\nT\r\n"
	r := post("/own", title+"--b\r\nContent-Disposition: form-data; name=photo; filename=p.png\r\n\r\nx\r\n--b--\r\n")
	if r.status != 200 || r.body != "p.png T" {
		t.Error(r)
	}
	r = post("/sub/api/v1/tasks", title+"--b\r\nContent-Disposition: form-data; name=attachment; filename=a b\r\n\r\nx\r\n"+
		"--b\r\nContent-Disposition: form-data; name=clientRequestId\r\n\r\nr\r\n--b\r\nContent-Disposition: form-data; name=taskType\r\n\r\nwords\r\n--b--\r\n")
	if r.status != 400 || !strings.Contains(r.body, `"field":"attachment"`) {
		t.Error(r)
	}
}
