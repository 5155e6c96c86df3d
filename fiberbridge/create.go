package fiberbridge

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The names of a create request's parts, in JSON and in forms.
const (
	fieldClientRequestID = "clientRequestId"
	fieldTaskType        = "taskType"
	fieldInput           = "input"
	fieldMetadata        = "metadata"
)

// maxNameLength bounds clientRequestId and taskType, in characters.
const maxNameLength = 255

// created is the answer to a create request.
type created struct {
	TaskID          string        `json:"taskId"`
	Status          engine.Status `json:"status"`
	ClientRequestID string        `json:"clientRequestId"`
	Deduplicated    bool          `json:"deduplicated"`
}

// Create is the handler of Routes.Create.
func (b *Bridge) Create(c *fiber.Ctx) error { return b.answer(c, b.create) }

func (b *Bridge) create(ctx context.Context, c *fiber.Ctx, auth engine.AuthContext) error {
	media, params, err := contentType(c)
	if err != nil {
		return err
	}
	var req engine.CreateRequest
	form := media == fiber.MIMEMultipartForm
	switch {
	case form:
		var done func()
		req, done, err = b.createForm(c, params["boundary"])
		defer done()
		// What a streamed form took to arrive was its client's time.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(c.UserContext(), requestLimit)
		defer cancel()
	case isJSON(media, params):
		req, err = b.createJSON(c)
	default:
		err = engine.NewError(engine.CodeInvalidRequest, "the Content-Type is neither application/json nor multipart/form-data")
	}
	if err != nil {
		return err
	}
	res, err := b.eng.Create(ctx, auth, req)
	if err != nil {
		if form {
			err = asFormError(err)
		}
		return err
	}
	status := fiber.StatusCreated
	if res.Deduplicated {
		status = fiber.StatusOK
	} else if location := b.location(c, res.Task.ID); location != "" {
		c.Set(fiber.HeaderLocation, location)
	}
	return sendJSON(c, status, created{res.Task.ID, res.Task.Status, res.Task.ClientRequestID, res.Deduplicated})
}

// createJSON reads a create request's JSON body.
func (b *Bridge) createJSON(c *fiber.Ctx) (engine.CreateRequest, error) {
	body, err := b.readBody(c)
	if err != nil {
		return engine.CreateRequest{}, err
	}
	return parseCreate(body)
}

// parseCreate holds doc to the schema of a create request and lists everything
// that is wrong. The result keeps nothing of doc.
func parseCreate(doc []byte) (engine.CreateRequest, error) {
	var req engine.CreateRequest
	members, err := objectMembers(doc)
	if errors.Is(err, errNotObject) {
		return req, fieldErrors{{Field: "", Message: err.Error()}}.err(engine.CodeRequestValidation)
	}
	if err != nil {
		return req, err
	}
	var wrong fieldErrors
	var hasID, hasType bool
	for _, m := range members {
		switch m.name {
		case fieldClientRequestID:
			hasID = true
			req.ClientRequestID = requiredText(&wrong, m)
		case fieldTaskType:
			hasType = true
			req.TaskType = requiredText(&wrong, m)
		case fieldInput, fieldMetadata:
			switch {
			case m.value[0] != '{':
				wrong.add(m.name, "is not an object")
			case m.name == fieldInput:
				req.Input = bytes.Clone(m.value)
			default:
				req.Metadata = bytes.Clone(m.value)
			}
		default:
			wrong.add(m.name, "is not a field of this request")
		}
	}
	if !hasID {
		wrong.add(fieldClientRequestID, "is required")
	}
	if !hasType {
		wrong.add(fieldTaskType, "is required")
	}
	return req, wrong.err(engine.CodeRequestValidation)
}

func requiredText(wrong *fieldErrors, m member) string {
	s, ok := decodeString(m.value)
	if !ok {
		wrong.add(m.name, "is not a string")
		return ""
	}
	checkName(wrong, m.name, s)
	return s
}

// checkName holds clientRequestId and taskType to their length.
func checkName(wrong *fieldErrors, field, s string) {
	if n := utf8.RuneCountInString(s); n < 1 || n > maxNameLength {
		wrong.add(field, "must have 1 to %d characters", maxNameLength)
	}
}

// location is the path of the new task's snapshot as this client sees it: what
// stands before Routes.Create in the request's own path, and Routes.Snapshot
// with the request's parameters. Without a snapshot route it is empty.
func (b *Bridge) location(c *fiber.Ctx, taskID string) string {
	if b.cfg.Routes.Snapshot == routeOff {
		return ""
	}
	param := func(name string) string {
		if name == taskParam {
			return taskID
		}
		return c.Params(name)
	}
	path := strings.TrimRight(c.Path(), "/")
	create := strings.TrimRight(fillPath(b.cfg.Routes.Create, param), "/")
	if base := len(path) - len(create); base >= 0 && strings.EqualFold(path[base:], create) {
		path = path[:base] + fillPath(b.cfg.Routes.Snapshot, param)
	} else {
		// The handler was put on a path of the host's own.
		path += "/" + taskID
	}
	return escapePath(path, c.App().Config().UnescapePath)
}

// escapePath makes a path from a request fit for a Location header: one slash
// in front, or it would name another host, and no byte that a URL cannot have.
// decoded says that the path is no longer percent-encoded.
func escapePath(path string, decoded bool) string {
	path = "/" + strings.TrimLeft(path, `/\`)
	if decoded {
		return (&url.URL{Path: path}).EscapedPath()
	}
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			out.WriteByte('%')
			out.WriteByte(hex[c>>4])
			out.WriteByte(hex[c&15])
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}
