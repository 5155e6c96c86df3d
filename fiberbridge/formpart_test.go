package fiberbridge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

const formBegin = "--b\r\nContent-Disposition: form-data; name=clientRequestId\r\n\r\nr\r\n" +
	"--b\r\nContent-Disposition: form-data; name=taskType\r\n\r\nt\r\n"

func readRawForm(t *testing.T, b *Bridge, head, content string) (engine.CreateRequest, error) {
	t.Helper()
	body := formBegin + "--b\r\n" + head + "\r\n\r\n" + content + "\r\n--b--\r\n"
	req, done, err := readTestForm(b, []byte(body), "multipart/form-data; boundary=b")
	t.Cleanup(done)
	return req, err
}

// What clients write about a file's name, and what becomes of it.
func TestFormFileNames(t *testing.T) {
	b := bareBridge(t, nil)
	for disposition, want := range map[string]string{
		`filename="my file.txt"`:                                "my file.txt",  // every client
		`filename="müll.txt"`:                                   "müll.txt",     // browsers, curl, OkHttp, requests
		`filename="f(1).txt"`:                                   "f(1).txt",     // a second download
		`filename="a%22b.txt"`:                                  "a%22b.txt",    // browsers, curl since 7.81, OkHttp
		`filename="a\"b.txt"`:                                   `a"b.txt`,      // Go, curl before 7.81
		`filename="C:\dir\b.txt"`:                               `C:\dir\b.txt`, // the engine takes the directories off
		`filename="a;b=c.txt"`:                                  "a;b=c.txt",
		`filename=plain.txt`:                                    "plain.txt",
		`filename*=utf-8''m%C3%BCll.txt`:                        "müll.txt", // urllib3 before 1.25
		`filename="mull.txt"; filename*=UTF-8''m%C3%BCll.txt`:   "müll.txt", // RFC 6266
		`filename="mull.txt"; filename*=iso-8859-1''m%FCll.txt`: "mull.txt",
	} {
		req, err := readRawForm(t, b, "Content-Disposition: form-data; name=\"attachment\"; "+disposition, "x")
		if err != nil || len(req.Files) != 1 || req.Files[0].Name != want {
			t.Errorf("%s: %+v %v", disposition, req.Files, err)
		}
	}
}

// A part that cannot be understood is never passed over: the answer names it.
func TestFormDamage(t *testing.T) {
	b := bareBridge(t, func(c *Config) { c.Uploads.IgnoreFields = []string{"scan"} })
	const disposition = "Content-Disposition: "
	for head, want := range map[string]string{ // code and field
		// No client in use writes these; what they mean would be a guess.
		disposition + `form-data; name="attachment"; filename="a"b.txt"`:                               "UPLOAD_VALIDATION_ERROR attachment",
		disposition + `form-data; name="attachment"; filename=my file.txt`:                             "UPLOAD_VALIDATION_ERROR attachment",
		disposition + `form-data; name="attachment"; filename=müll.txt`:                                "UPLOAD_VALIDATION_ERROR attachment",
		disposition + `form-data; name="attachment"; filename=f(1).txt`:                                "UPLOAD_VALIDATION_ERROR attachment",
		disposition + `form-data; name="attachment"; filename="a"; filename="b"`:                       "UPLOAD_VALIDATION_ERROR attachment",
		disposition + `form-data; name=attachment; filename="a`:                                        "UPLOAD_VALIDATION_ERROR attachment",
		disposition + `form-data; filename="a"`:                                                        "UPLOAD_VALIDATION_ERROR part 3",
		disposition + `attachment; name="attachment"; filename="a"`:                                    "UPLOAD_VALIDATION_ERROR attachment",
		disposition + `form-data; name="attachment"; filename*=iso-8859-1''m%FCll.txt`:                 "UPLOAD_VALIDATION_ERROR attachment",
		disposition + "form-data; name=attachment; filename=a\r\nContent-Transfer-Encoding: base64":    "UPLOAD_VALIDATION_ERROR attachment",
		disposition + "form-data; name=attachment\r\n" + disposition + "form-data; name=x; filename=a": "UPLOAD_VALIDATION_ERROR attachment",
		disposition + `form-data; name="file"; filename=""`:                                            "UPLOAD_VALIDATION_ERROR file",
		disposition + `form-data; name="metadata"; filename="blob"`:                                    "UPLOAD_VALIDATION_ERROR metadata",

		// Fields would be taken for left out.
		disposition + `form-data; name="input`:                                               "INVALID_REQUEST part 3",
		disposition + `form-data; name="input"; x=(y)`:                                       "INVALID_REQUEST input",
		disposition + `form-data`:                                                            "INVALID_REQUEST part 3",
		"Content-Type: application/json":                                                     "INVALID_REQUEST part 3",
		disposition + "form-data; name=input\r\nContent-Transfer-Encoding: base64":           "INVALID_REQUEST input",
		disposition + `form-data; name="attachment[]"`:                                       "INVALID_REQUEST attachment[]",
		disposition + "form-data; name=input\r\n" + disposition + "form-data; name=metadata": "INVALID_REQUEST input",
	} {
		_, err := readRawForm(t, b, head, "{}")
		if got := strings.TrimSpace(fmt.Sprint(engine.CodeOf(err), " ", strings.Join(fieldsOf(err), " "))); got != want {
			t.Errorf("%s: %q, want %q (%v)", head, got, want, err)
		}
	}
	for _, head := range []string{
		disposition + `form-data; name="scan"; filename="a"`,
		disposition + `form-data; name="scan"; filename*=iso-8859-1''a`,
		disposition + `form-data; name="csrf"`,
	} {
		if req, err := readRawForm(t, b, head, "x"); err != nil || len(req.Files) != 0 {
			t.Errorf("%s: %+v %v", head, req.Files, err)
		}
	}
	// A file input that was left empty.
	for _, field := range []string{"attachment", "attachments[]", "other"} {
		head := disposition + `form-data; name="` + field + "\"; filename=\"\"\r\nContent-Type: application/octet-stream"
		if req, err := readRawForm(t, b, head, ""); err != nil || len(req.Files) != 0 {
			t.Errorf("%s left empty: %+v %v", field, req.Files, err)
		}
	}
}

func TestFormFieldNames(t *testing.T) {
	b := bareBridge(t, nil)
	for field, taken := range map[string]bool{
		"attachment": true, "attachments": true, "attachment[]": true, "attachments[]": true, "attachments[0]": true, "attachment[17]": true,
		"file": false, "Attachment": false, "attachments[": false, "attachments[a]": false, "attachments[0][1]": false, "attachments.0": false,
		"my attachment": false, "attachments[-1]": false,
	} {
		req, err := readRawForm(t, b, "Content-Disposition: form-data; name=\""+field+"\"; filename=a", "x")
		if taken && (err != nil || len(req.Files) != 1) {
			t.Errorf("%s: %v", field, err)
		}
		if !taken && (engine.CodeOf(err) != engine.CodeUploadValidation || fmt.Sprint(fieldsOf(err)) != "["+field+"]") {
			t.Errorf("%s: %v %q", field, err, fieldsOf(err))
		}
	}
	for _, field := range []string{"", "attachment", "attachments[]", "input"} {
		c := validConfig()
		c.Uploads.IgnoreFields = []string{field}
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "Uploads.IgnoreFields[0]") {
			t.Errorf("%q may be ignored: %v", field, err)
		}
	}
}

// The part behind a damaged first boundary would be skipped as a preamble.
func TestFormBegins(t *testing.T) {
	b := bareBridge(t, nil)
	const end = "--b--\r\n"
	for body, want := range map[string]engine.Code{
		formBegin + end:          "",
		"\r\n" + formBegin + end: "",
		"--\r\nContent-Disposition: form-data; name=input\r\n\r\n{}\r\n" + formBegin + end: engine.CodeInvalidRequest,
		"hello\r\n" + formBegin + end: engine.CodeInvalidRequest,
	} {
		_, done, err := readTestForm(b, []byte(body), "multipart/form-data; boundary=b")
		done()
		if engine.CodeOf(err) != want {
			t.Errorf("%q: %v", body, err)
		}
	}
}
