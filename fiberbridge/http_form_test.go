package fiberbridge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// part is one part of a form; a file if it has a file name.
type part struct{ name, file, contentType, value string }

func writeForm(t testing.TB, parts ...part) (body []byte, contentType string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		d := `form-data; name="` + p.name + `"`
		if p.file != "" {
			d += `; filename="` + p.file + `"`
		}
		h.Set("Content-Disposition", d)
		if p.contentType != "" {
			h.Set("Content-Type", p.contentType)
		}
		pw, err := w.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(pw, p.value)
	}
	_ = w.Close()
	return buf.Bytes(), w.FormDataContentType()
}

// readTestForm parses body as Create does.
func readTestForm(b *Bridge, body []byte, contentTypeHeader string) (req engine.CreateRequest, done func(), err error) {
	app := fiber.New()
	c := bareCtx(app, contentTypeHeader)
	c.Request().SetBody(body)
	release := func() { app.ReleaseCtx(c) }
	_, params, err := contentType(c)
	if err != nil {
		return req, release, err
	}
	req, formDone, err := b.createForm(c, &engine.AuthContext{Subject: "alice"}, params["boundary"])
	return req, func() { formDone(); c.Request().RemoveMultipartFormFiles(); release() }, err
}

func bareCtx(app *fiber.App, contentTypeHeader string) *fiber.Ctx {
	var fctx fasthttp.RequestCtx
	fctx.Request.Header.SetMethod("POST")
	fctx.Request.Header.SetContentType(contentTypeHeader)
	return app.AcquireCtx(&fctx)
}

func TestCreateForm(t *testing.T) {
	id, typ := part{name: "clientRequestId", value: "r"}, part{name: "taskType", value: "t"}
	file := func(name, file string) part { return part{name, file, "text/plain", "content"} }
	many := []part{id, typ}
	for i := range 4 {
		many = append(many, file("attachments", fmt.Sprint(i)))
	}
	tests := []struct {
		name   string
		parts  []part
		code   engine.Code
		fields []string
	}{
		{"least", []part{id, typ}, "", nil},
		{"objects", []part{id, typ, {name: "input", value: ` {"a":1} `}, {name: "metadata", contentType: "application/json", value: "{}"}}, "", nil},
		{"files", []part{id, typ, file("attachment", "a"), file("attachments", "b"), file("ignored", "c")}, "", nil},
		{"unknown fields", []part{id, typ, {name: "csrf", value: "x"}}, "", nil},
		{"objects left empty", []part{id, typ, {name: "input"}, {name: "metadata", value: " "}}, "", nil},
		{"a key twice in an object, as in JSON", []part{id, typ, {name: "input", value: `{"a":1,"a":2}`}}, "", nil},
		{"a file input left empty", []part{id, typ, {name: "attachment"}}, "", nil},
		{"an empty file", []part{id, typ, {"attachment", "empty", "", ""}}, "", nil},

		{"missing", nil, engine.CodeInvalidRequest, []string{"clientRequestId", "taskType"}},
		{"empty", []part{{name: "clientRequestId"}, typ}, engine.CodeInvalidRequest, []string{"clientRequestId"}},
		{"too long", []part{{name: "clientRequestId", value: strings.Repeat("x", 256)}, typ}, engine.CodeInvalidRequest, []string{"clientRequestId"}},
		{"twice", []part{id, id, typ}, engine.CodeInvalidRequest, []string{"clientRequestId"}},
		{"invalid UTF-8", []part{{name: "clientRequestId", value: "\xff"}, typ}, engine.CodeInvalidRequest, []string{"clientRequestId"}},
		{"as files", []part{file("clientRequestId", "a"), typ}, engine.CodeInvalidRequest, []string{"clientRequestId"}},
		{"no objects", []part{id, typ, {name: "input", value: "[]"}, {name: "metadata", value: "{"}}, engine.CodeInvalidRequest, []string{"input", "metadata"}},
		{"invalid UTF-8 in input", []part{id, typ, {name: "input", value: "{\"a\":\"\xff\"}"}}, engine.CodeInvalidRequest, []string{"input"}},
		{"files under other names", []part{id, typ, file("other", "c"), file("input", "d")}, engine.CodeUploadValidation, []string{"other", "input"}},
		{"text for a file", []part{id, typ, {name: "attachment", value: "x"}}, engine.CodeInvalidRequest, []string{"attachment"}},

		{"too many files", many, engine.CodeUploadValidation, []string{"attachments"}},
		{"a large file", []part{id, typ, {"attachment", "a", "", "small"}, {"attachment", "b", "", strings.Repeat("x", 101)}}, engine.CodeUploadValidation, []string{"attachment[1]"}},
		{"too much together", []part{id, typ, {"attachment", "a", "", strings.Repeat("x", 90)}, {"attachments", "b", "", strings.Repeat("x", 90)}}, engine.CodeUploadValidation, []string{"attachments"}},
		{"a name that is no text", []part{id, typ, {"attachment", "a\xffb", "", "x"}}, engine.CodeUploadValidation, []string{"attachment[0]"}},
	}
	b := bareBridge(t, func(c *Config) {
		c.Uploads = UploadConfig{MaxFiles: 3, MaxFileBytes: 100, MaxTotalBytes: 150, IgnoreFields: []string{"ignored"}}
	})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, ct := writeForm(t, tt.parts...)
			_, done, err := readTestForm(b, body, ct)
			defer done()
			if got := engine.CodeOf(err); got != tt.code {
				t.Fatalf("code %q, want %q: %v", got, tt.code, err)
			}
			if got := fieldsOf(err); fmt.Sprint(got) != fmt.Sprint(tt.fields) {
				t.Errorf("fields %q, want %q", got, tt.fields)
			}
		})
	}
}

func TestCreateFormKeepsOrder(t *testing.T) {
	b := bareBridge(t, nil)
	parts := []part{{name: "clientRequestId", value: "r"}, {name: "taskType", value: "t"}}
	for _, n := range []string{"z", "a", "m"} {
		parts = append(parts, part{"attachments", "s" + n, "", n}, part{"attachment", n, "x/" + n, n})
	}
	body, ct := writeForm(t, parts...)
	req, done, err := readTestForm(b, body, ct)
	defer done()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range req.Files {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(r)
		_ = r.Close()
		names = append(names, f.Name+"="+string(content)+f.ContentType)
	}
	if got := strings.Join(names, " "); got != "sz=ztext/plain z=zx/z sa=atext/plain a=ax/a sm=mtext/plain m=mx/m" {
		t.Error(got)
	}
}

func FuzzCreateForm(f *testing.F) {
	b := &Bridge{textBytes: 3 << 20, cfg: Config{Logger: quiet(), Uploads: UploadConfig{MaxFiles: 2, MaxFileBytes: 64, MaxTotalBytes: 100}}}
	body, ct := writeForm(f, part{name: "clientRequestId", value: "r"}, part{name: "taskType", value: "t"},
		part{name: "input", value: `{"a":1}`}, part{"attachment", `..\x"y`, "text/plain\t", "z"})
	f.Add(body, ct)
	f.Add(body[:len(body)-8], ct)
	f.Add([]byte("--x\r\nContent-Disposition: form-data; name=taskType\r\n\r\n\xff\r\n--x--"), "multipart/form-data; boundary=x")
	f.Add([]byte{}, "multipart/form-data")
	f.Fuzz(func(t *testing.T, body []byte, ct string) {
		req, done, err := readTestForm(b, body, ct)
		defer done()
		if err != nil {
			var e *engine.Error
			if !errors.As(err, &e) || httpStatus(e.Code) != 400 {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, s := range []string{req.ClientRequestID, req.TaskType} {
			if n := utf8.RuneCountInString(s); !utf8.ValidString(s) || n < 1 || n > 255 {
				t.Fatalf("took %q", s)
			}
		}
		for _, file := range req.Files {
			if !utf8.ValidString(file.Name) || file.Size > 64 {
				t.Fatalf("took %+v", file)
			}
		}
	})
}

func testQuery(query string) (engine.PollRequest, string, error) {
	app := fiber.New()
	var fctx fasthttp.RequestCtx
	fctx.Request.SetRequestURI("/x")
	fctx.Request.URI().SetQueryString(query)
	c := app.AcquireCtx(&fctx)
	defer app.ReleaseCtx(c)
	return pollQuery(c)
}

func TestPollQuery(t *testing.T) {
	for query, want := range map[string]struct {
		code   engine.Code
		fields string
	}{
		"":                                {"", ""},
		"afterEventId=":                   {"", ""},
		"afterEventId=5&x=y&x=z":          {"", ""},
		"afterEventId=5-7&maxEvents=500":  {"", ""},
		"waitTimeoutMs=60000&maxEvents=1": {"", ""},
		"maxEvents=007":                   {"", ""},

		"afterEventId=x":                      {engine.CodeInvalidRequest, ""},
		"afterEventId=-":                      {engine.CodeInvalidRequest, ""},
		"afterEventId=5-":                     {engine.CodeInvalidRequest, ""},
		"afterEventId=5-6-7":                  {engine.CodeInvalidRequest, ""},
		"afterEventId=+5":                     {engine.CodeInvalidRequest, ""},
		"afterEventId=18446744073709551616":   {engine.CodeInvalidRequest, ""},
		"afterEventId=000000000000000000001":  {engine.CodeInvalidRequest, ""},
		"afterEventId=%35%00":                 {engine.CodeInvalidRequest, ""},
		"afterEventId=5&afterEventId=5":       {engine.CodeInvalidRequest, ""},
		"afterEventId=x&maxEvents=x":          {engine.CodeInvalidRequest, ""},
		"waitTimeoutMs=60001":                 {engine.CodeRequestValidation, "waitTimeoutMs"},
		"waitTimeoutMs=-1":                    {engine.CodeRequestValidation, "waitTimeoutMs"},
		"waitTimeoutMs=1.5":                   {engine.CodeRequestValidation, "waitTimeoutMs"},
		"waitTimeoutMs=":                      {engine.CodeRequestValidation, "waitTimeoutMs"},
		"waitTimeoutMs":                       {engine.CodeRequestValidation, "waitTimeoutMs"},
		"waitTimeoutMs=1&waitTimeoutMs=1":     {engine.CodeRequestValidation, "waitTimeoutMs"},
		"maxEvents=0":                         {engine.CodeRequestValidation, "maxEvents"},
		"maxEvents=501":                       {engine.CodeRequestValidation, "maxEvents"},
		"maxEvents=99999999999999999999":      {engine.CodeRequestValidation, "maxEvents"},
		"maxEvents=+1":                        {engine.CodeRequestValidation, "maxEvents"},
		"maxEvents=1e2":                       {engine.CodeRequestValidation, "maxEvents"},
		"maxEvents=ten&waitTimeoutMs=forever": {engine.CodeRequestValidation, "waitTimeoutMs maxEvents"},
	} {
		_, _, err := testQuery(query)
		if engine.CodeOf(err) != want.code || strings.Join(fieldsOf(err), " ") != want.fields {
			t.Errorf("%q: %v %q", query, err, fieldsOf(err))
		}
	}
	req, cursor, err := testQuery("afterEventId=5&waitTimeoutMs=250&maxEvents=7")
	if err != nil || cursor != "5" || req.After != (engine.EventID{Millis: 5}) || req.Max != 7 || req.Wait.Milliseconds() != 250 {
		t.Errorf("%+v %q %v", req, cursor, err)
	}
}

// No query gives anything but a clear answer, and no cursor breaks out of the
// JSON that repeats it.
func FuzzPollQuery(f *testing.F) {
	for _, seed := range []string{"afterEventId=5-7", "afterEventId=%22%2c", "maxEvents=3&waitTimeoutMs=9", "afterEventId=5%0d%0a", "%zz=&&="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		req, cursor, err := testQuery(query)
		if err != nil {
			if s := httpStatus(engine.CodeOf(err)); s != 400 && s != 422 {
				t.Fatalf("%q: %v", query, err)
			}
			return
		}
		if strings.Trim(cursor, "0123456789-") != "" || req.Max < 1 || req.Max > 500 || req.Wait < 0 || req.Wait.Seconds() > 60 {
			t.Fatalf("%q: %q %+v", query, cursor, req)
		}
	})
}

func FuzzLocation(f *testing.F) {
	f.Add("/evil.com/api/tasks")
	f.Add(`\evil.com/x`)
	f.Add("//evil.com\r\nX: y")
	f.Add("/p/%2f%0d%0a/ä")
	f.Fuzz(func(t *testing.T, path string) {
		for _, decoded := range []bool{true, false} {
			location := escapePath(path, decoded)
			u, err := url.Parse(location)
			if decoded && (err != nil || u.Host != "") || len(location) < 1 || location[0] != '/' || strings.HasPrefix(location, "//") || strings.HasPrefix(location, `/\`) {
				t.Fatalf("%q gives %q (%v)", path, location, err)
			}
			if strings.IndexFunc(location, func(r rune) bool { return r <= ' ' || r >= 0x7f }) >= 0 {
				t.Fatalf("%q gives %q", path, location)
			}
		}
	})
}
