package fiberbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// fileFields are the names under which files are taken; see isFileField.
var fileFields = []string{"attachment", "attachments"}

const (
	// formMemory is how much of a streamed form's files stays in memory; the
	// rest goes to a temporary file.
	formMemory = 256 << 10
	// formHeadBytes is what may stand between the contents of two parts. The
	// standard library would take 10 MiB of headers for each.
	formHeadBytes = 64 << 10
	// formParts bounds the parts of a form, ours or not.
	formParts = 1000
	// formNameBytes and formTypeBytes bound a file's name, which is shortened
	// later, and its content type.
	formNameBytes = 1 << 10
	formTypeBytes = 255
)

// createForm reads a create request's multipart form. done gives back what the
// form holds; it is never nil, and the request's files are gone after it.
func (b *Bridge) createForm(c *fiber.Ctx, auth *engine.AuthContext, boundary string) (req engine.CreateRequest, done func(), err error) {
	f := &createParts{limits: b.cfg.Uploads, noFiles: b.noFiles, textBytes: b.textBytes, values: map[string][]string{}, count: map[string]int{}}
	f.receive = func(length int64) (*incoming, error) { return b.streams.receive(c, auth, length) }
	done = func() {
		if err := f.spool.close(); err != nil {
			b.cfg.Logger.WarnContext(c.UserContext(), "the temporary file of an upload was left behind", "error", err)
		}
	}
	if err := f.read(c, boundary); err != nil {
		return req, done, err
	}
	if err := f.damaged.err(engine.CodeInvalidRequest); err != nil {
		return req, done, err
	}
	if req, err = parseForm(f.values, f.count); err != nil {
		return req, done, err
	}
	req.Files, err = f.files, f.wrong.err(engine.CodeUploadValidation)
	return req, done, err
}

// createParts gathers the parts of a create request's form.
type createParts struct {
	limits  UploadConfig
	noFiles bool // are taken at all
	// receive takes a place for a streamed form.
	receive func(length int64) (*incoming, error)
	// textBytes bounds our fields together, and in a streamed form everything
	// beside its files.
	textBytes int64
	spool     spool

	values map[string][]string
	text   int64          // bytes of values
	count  map[string]int // files by field, for messages
	files  []engine.File
	total  int64 // bytes of files
	wrong  fieldErrors
	// damaged are parts that are no files and cannot be told what they are.
	damaged fieldErrors
}

// read finds the form, wherever Fiber has put it: parsed already, in memory,
// or still to come.
func (f *createParts) read(c *fiber.Ctx, boundary string) error {
	request := c.Request()
	switch {
	case boundary == "":
		return malformedForm(nil)
	case request.IsBodyStream():
		return f.stream(c, boundary)
	case request.Header.ContentLength() > 0 && !c.App().Server().DisablePreParseMultipartForm:
		form, err := request.MultipartForm()
		if err != nil {
			return malformedForm(err)
		}
		return f.parsed(form)
	}
	body := request.Body()
	f.spool.memory = int64(len(body)) // it is there already
	return f.parse(bytes.NewReader(body), boundary)
}

// stream reads a form that is still to come.
func (f *createParts) stream(c *fiber.Ctx, boundary string) error {
	most, length := f.limits.MaxTotalBytes+f.textBytes, int64(c.Request().Header.ContentLength())
	if length > most {
		return errUploadTotal(f.limits)
	}
	in, err := f.receive(length)
	if err != nil {
		return err
	}
	body := newBodyReader(c, f.limits.ReadTimeout, f.limits.MinRate)
	from := &counted{r: body, in: in}
	limited := &io.LimitedReader{R: from, N: most}
	f.spool.memory = formMemory
	err = f.parse(limited, boundary)
	body.finish()
	switch {
	case from.err != nil:
		return from.err
	case err != nil && limited.N <= 0:
		return errUploadTotal(f.limits)
	}
	return err
}

// parsed takes what fasthttp has parsed, and will give back. The order between
// fields is lost: files under the first name come first. So are parts whose head
// could not be parsed; see leaveFormsToHandlers.
func (f *createParts) parsed(form *multipart.Form) error {
	f.values = form.Value
	for _, field := range slices.Sorted(maps.Keys(form.File)) {
		for i, h := range form.File[field] {
			head, damage := readPartHead(h.Header)
			if f.refuses(head, damage, i+1) {
				continue
			}
			open := func() (io.ReadCloser, error) { return h.Open() }
			if err := f.file(field, h.Filename, h.Header, h.Size, open); err != nil {
				return err
			}
		}
	}
	return nil
}

// parse reads a form part by part, in the client's order.
func (f *createParts) parse(body io.Reader, boundary string) error {
	body, err := beginForm(body, boundary)
	if err != nil {
		return err
	}
	head := &headReader{r: body}
	form := multipart.NewReader(head, boundary)
	for n := range formParts {
		head.begin(formHeadBytes)
		p, err := form.NextPart()
		head.end()
		if err == io.EOF { //nolint:errorlint // a broken form wraps it
			return nil
		}
		if err != nil {
			return malformedForm(err)
		}
		said, damage := readPartHead(p.Header)
		switch {
		case f.refuses(said, damage, n+1):
		case said.name == "":
			err = f.value(said, p)
		default:
			var size int64
			var open func() (io.ReadCloser, error)
			// One byte more tells that there is too much.
			most := min(f.limits.MaxFileBytes, f.limits.MaxTotalBytes-f.total) + 1
			if len(f.files) >= f.limits.MaxFiles || f.noFiles {
				most = 0 // refused anyway
			}
			if size, open, err = f.spool.add(io.LimitReader(p, most)); err == nil {
				err = f.file(said.field, said.name, p.Header, size, open)
			}
		}
		if err != nil {
			return err
		}
		// What is left of it is not the next one's head.
		if _, err := io.Copy(io.Discard, p); err != nil {
			return malformedForm(err)
		}
	}
	return engine.Errorf(engine.CodeInvalidRequest, "the form has %d parts or more", formParts)
}

// refuses reports whether a part is not to be read on, and tells the client why
// unless the host wants it ignored. number counts the form's parts from 1.
func (f *createParts) refuses(head partHead, damage string, number int) bool {
	if head.file && f.limits.ignoresField(head.field) {
		return true
	}
	if damage != "" {
		at := head.field
		if at == "" {
			at = fmt.Sprintf("part %d", number)
		}
		if head.file {
			f.wrong.add(at, "%s", damage)
		} else {
			f.damaged.add(at, "%s", damage)
		}
		return true
	}
	if head.name == "" || isFileField(head.field) {
		return false
	}
	if isTextField(head.field) {
		f.wrong.add(head.field, "is a file; it must be a text field")
		f.count[head.field]++
	} else {
		f.wrong.add(head.field, "is a file; files are taken under attachment and attachments only")
	}
	return true
}

// headReader bounds what is read between two parts.
type headReader struct {
	r    io.Reader
	left int64
	on   bool
}

func (h *headReader) begin(most int64) { h.left, h.on = most, true }
func (h *headReader) end()             { h.on = false }

func (h *headReader) Read(p []byte) (int, error) {
	if !h.on {
		return h.r.Read(p)
	}
	if h.left <= 0 {
		return 0, multipart.ErrMessageTooLarge
	}
	n, err := h.r.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}

// value takes a field that is ours. A browser sends a file input that was left
// empty as a file without a name and without content.
func (f *createParts) value(head partHead, r io.Reader) error {
	field := head.field
	if !isTextField(field) && !isFileField(field) {
		if head.file {
			if n, err := io.CopyN(io.Discard, r, 1); n > 0 {
				f.wrong.add(field, "is a file without a name")
			} else if !errors.Is(err, io.EOF) {
				return malformedForm(err)
			}
		}
		return nil
	}
	var text strings.Builder
	n, err := io.Copy(&text, io.LimitReader(r, f.textBytes-f.text+1))
	if err != nil {
		return malformedForm(err)
	}
	if f.text += n; f.text > f.textBytes {
		return malformedForm(multipart.ErrMessageTooLarge)
	}
	f.values[field] = append(f.values[field], text.String())
	return nil
}

// file takes a file and holds it to the limits.
func (f *createParts) file(field, name string, header textproto.MIMEHeader, size int64, open func() (io.ReadCloser, error)) error {
	at := field
	if base, open := strings.CutSuffix(field, "[]"); open || !strings.HasSuffix(field, "]") {
		at = fmt.Sprintf("%s[%d]", base, f.count[field])
	}
	f.count[field]++
	if f.noFiles {
		f.wrong.add(at, "is a file, and no files are taken here")
		return nil
	}
	if len(f.files) >= f.limits.MaxFiles {
		if len(f.files) == f.limits.MaxFiles {
			f.wrong.add(fileFields[1], "are more than %d files", f.limits.MaxFiles)
			f.files = append(f.files, engine.File{}) // told once
		}
		return nil
	}
	if f.total += size; f.total > f.limits.MaxTotalBytes {
		return errUploadTotal(f.limits)
	}
	contentType := header.Get(fiber.HeaderContentType)
	switch {
	case size > f.limits.MaxFileBytes:
		f.wrong.add(at, "is larger than %d bytes", f.limits.MaxFileBytes)
	case !utf8.ValidString(name):
		f.wrong.add(at, "has a name that is not text")
	case len(name) > formNameBytes || len(contentType) > formTypeBytes:
		f.wrong.add(at, "has a name of more than %d bytes or a type of more than %d", formNameBytes, formTypeBytes)
	default:
		head, err := fileHead(open)
		if err != nil {
			return internal(err)
		}
		if contentType, err = fileType(contentType, head); err != nil {
			f.wrong.add(at, "%s", err.Error())
		} else if !f.limits.allows(contentType) {
			f.wrong.add(at, "is of a type that is not taken here: %s", shorten(contentType))
		}
	}
	f.files = append(f.files, engine.File{
		Name: strings.Clone(name), ContentType: strings.Clone(contentType), Size: size, Open: open,
	})
	return nil
}

// fileHead returns as much of a file's beginning as fileType looks at.
func fileHead(open func() (io.ReadCloser, error)) ([]byte, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	head := make([]byte, sniffBytes)
	n, err := io.ReadFull(r, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}

// errFormTooLarge is what all of mime/multipart's own limits come to.
var errFormTooLarge = engine.Errorf(engine.CodeInvalidRequest,
	"the form has too many parts (%d or more), too large fields, or too many headers", formParts)

func malformedForm(cause error) error {
	if errors.Is(cause, multipart.ErrMessageTooLarge) {
		return errFormTooLarge.WithCause(cause)
	}
	if errors.Is(cause, os.ErrDeadlineExceeded) {
		return errBrokenOff(cause)
	}
	return engine.NewError(engine.CodeInvalidRequest, "malformed multipart form").WithCause(cause)
}

// parseForm holds a form's fields to the schema. Fields of other names are not
// ours: forms of browsers carry tokens and buttons. files counts what came as
// files, by field.
func parseForm(values map[string][]string, files map[string]int) (engine.CreateRequest, error) {
	var wrong fieldErrors
	text := func(field string) (string, bool) {
		switch v := values[field]; {
		case len(v) == 0:
			return "", false
		case len(v) > 1:
			wrong.add(field, "is given more than once")
		case !utf8.ValidString(v[0]):
			wrong.add(field, "is not valid UTF-8")
		default:
			return strings.Clone(v[0]), true
		}
		return "", true
	}
	name := func(field string) string {
		before := len(wrong)
		s, given := text(field)
		switch {
		case !given && files[field] > 0:
			wrong.add(field, "is a file; it must be a text field")
		case !given:
			wrong.add(field, "is required")
		case len(wrong) == before:
			checkName(&wrong, field, s)
		}
		return s
	}
	object := func(field string) []byte {
		before := len(wrong)
		s, _ := text(field)
		s = strings.Trim(s, jsonSpace)
		// An empty field is one that was left empty, as forms have them.
		if s == "" || len(wrong) > before {
			return nil
		}
		if s[0] != '{' || !json.Valid([]byte(s)) {
			wrong.add(field, "is not a JSON object")
			return nil
		}
		return []byte(s)
	}
	req := engine.CreateRequest{
		ClientRequestID: name(fieldClientRequestID),
		TaskType:        name(fieldTaskType),
		Input:           object(fieldInput),
		Metadata:        object(fieldMetadata),
	}
	for _, field := range slices.Sorted(maps.Keys(values)) {
		// A browser sends an empty field for an input without a file; anything
		// else here is an upload that would be lost without a word.
		if isFileField(field) && slices.ContainsFunc(values[field], func(v string) bool { return v != "" }) {
			wrong.add(field, "is not a file")
		}
	}
	return req, wrong.err(engine.CodeInvalidRequest)
}

func errUploadTotal(limits UploadConfig) error {
	var wrong fieldErrors
	wrong.add(fileFields[1], "are larger than %d bytes together", limits.MaxTotalBytes)
	return wrong.err(engine.CodeUploadValidation)
}

// asFormError gives what the engine finds wrong with a form's fields the
// status that mistakes in forms have.
func asFormError(err error) error {
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.CodeRequestValidation {
		return err
	}
	c := *e
	c.Code = engine.CodeInvalidRequest
	return &c
}
