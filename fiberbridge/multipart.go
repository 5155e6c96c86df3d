package fiberbridge

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// fileFields are the names under which files are taken, in the order in which
// they are kept. A parsed form has lost the order between the two names; under
// each the client's order is kept.
var fileFields = []string{"attachment", "attachments"}

// formMemory is how much of a streamed form's files stays in memory; the rest
// goes to temporary files.
const formMemory = 1 << 20

// formFieldBytes is what the fields and headers of a streamed form may take
// beside its files.
const formFieldBytes = 8 << 20

// formEpilogueBytes is what may follow a form's last boundary, to no purpose.
const formEpilogueBytes = 4 << 10

// createForm reads a create request's multipart form. done gives back what the
// form holds; it is never nil, and the request's files are gone after it.
func (b *Bridge) createForm(c *fiber.Ctx, boundary string) (req engine.CreateRequest, done func(), err error) {
	form, done, err := b.readForm(c, boundary)
	if err != nil {
		return req, done, err
	}
	if req, err = parseForm(form.Value); err != nil {
		return req, done, err
	}
	req.Files, err = formFiles(form, b.cfg.Uploads)
	return req, done, err
}

// readForm parses the form, wherever Fiber has put it: parsed already, in
// memory, or still to come.
func (b *Bridge) readForm(c *fiber.Ctx, boundary string) (*multipart.Form, func(), error) {
	if !c.Request().IsBodyStream() {
		form, err := c.Request().MultipartForm()
		if err != nil {
			return nil, func() {}, malformedForm(err)
		}
		// fasthttp removes the files of its own form when the request is over.
		return form, func() {}, nil
	}
	if boundary == "" {
		return nil, func() {}, malformedForm(nil)
	}
	limited := &io.LimitedReader{R: c.Context().RequestBodyStream(), N: b.cfg.Uploads.MaxTotalBytes + formFieldBytes}
	form, err := multipart.NewReader(limited, boundary).ReadForm(formMemory)
	if err != nil {
		err = malformedForm(err)
		if limited.N <= 0 {
			err = errUploadTotal(b.cfg.Uploads)
		}
		return nil, func() {}, err
	}
	// A form ends before its body does: with chunks, at least one is left.
	if !skipBody(c, formEpilogueBytes) {
		c.Context().SetConnectionClose()
	}
	return form, func() {
		if err := form.RemoveAll(); err != nil {
			b.cfg.Logger.WarnContext(c.UserContext(), "temporary files of an upload were left behind", "error", err)
		}
	}, nil
}

func malformedForm(cause error) error {
	if errors.Is(cause, multipart.ErrMessageTooLarge) {
		return engine.NewError(engine.CodeInvalidRequest, "the fields of the form are too large").WithCause(cause)
	}
	return engine.NewError(engine.CodeInvalidRequest, "malformed multipart form").WithCause(cause)
}

// parseForm holds a form's fields to the schema. Fields of other names are not
// ours: forms of browsers carry tokens and buttons.
func parseForm(values map[string][]string) (engine.CreateRequest, error) {
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
		if !given {
			wrong.add(field, "is required")
		} else if len(wrong) == before {
			checkName(&wrong, field, s)
		}
		return s
	}
	object := func(field string) []byte {
		before := len(wrong)
		s, given := text(field)
		if !given || len(wrong) > before {
			return nil
		}
		if _, err := objectMembers([]byte(s)); err != nil {
			wrong.add(field, "is not a JSON object")
			return nil
		}
		return []byte(strings.Trim(s, jsonSpace))
	}
	req := engine.CreateRequest{
		ClientRequestID: name(fieldClientRequestID),
		TaskType:        name(fieldTaskType),
		Input:           object(fieldInput),
		Metadata:        object(fieldMetadata),
	}
	for _, field := range fileFields {
		// A browser sends an empty field for an input without a file; anything
		// else here is an upload that would be lost without a word.
		if slices.ContainsFunc(values[field], func(v string) bool { return v != "" }) {
			wrong.add(field, "is not a file")
		}
	}
	return req, wrong.err(engine.CodeInvalidRequest)
}

// formFiles takes the files of a form and holds them to the limits.
func formFiles(form *multipart.Form, limits UploadConfig) ([]engine.File, error) {
	var wrong fieldErrors
	var files []engine.File
	var total int64
	for _, field := range fileFields {
		for i, h := range form.File[field] {
			at := fmt.Sprintf("%s[%d]", field, i)
			switch total += h.Size; {
			case h.Size > limits.MaxFileBytes:
				wrong.add(at, "is larger than %d bytes", limits.MaxFileBytes)
			case !utf8.ValidString(h.Filename) || strings.ContainsFunc(h.Filename, isControl):
				wrong.add(at, "has a name that is not text")
			}
			files = append(files, engine.File{
				Name:        strings.Clone(h.Filename),
				ContentType: strings.Clone(h.Header.Get(fiber.HeaderContentType)),
				Size:        h.Size,
				Open:        func() (io.ReadCloser, error) { return h.Open() },
			})
		}
	}
	if len(files) > limits.MaxFiles {
		wrong.add(fileFields[1], "are more than %d files", limits.MaxFiles)
	}
	if total > limits.MaxTotalBytes {
		return nil, errUploadTotal(limits)
	}
	if err := wrong.err(engine.CodeUploadValidation); err != nil {
		return nil, err
	}
	return files, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

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
