package fiberbridge

import (
	"context"
	"net/url"
	"strings"

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
	form := media == fiber.MIMEMultipartForm
	if !form && !isJSON(media, params) {
		return engine.NewError(engine.CodeInvalidRequest, "the Content-Type is neither application/json nor multipart/form-data")
	}
	creation, err := b.eng.AdmitCreate(ctx, auth, engine.CreateHead{Form: form, Length: int64(c.Request().Header.ContentLength())})
	if err != nil {
		return err
	}
	var req engine.CreateRequest
	mine := &turn{t: b.turns, subject: auth.Subject}
	defer mine.end()
	if form {
		var done func()
		req, done, err = b.createForm(c, &auth, params["boundary"])
		defer done()
		// What a streamed form took to arrive was its client's time.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(c.UserContext(), requestLimit)
		defer cancel()
	} else {
		req, err = b.createJSON(ctx, c, &auth, mine)
	}
	if err != nil {
		return err
	}
	remember(c, func() []string {
		brought := []string{req.ClientRequestID, string(req.Input), string(req.Metadata)}
		for i := range req.Files {
			brought = append(brought, req.Files[i].Name)
		}
		return brought
	})
	if err := mine.take(ctx, len(req.Input)+len(req.Metadata)); err != nil {
		return err
	}
	creation.Compared = mine.end // nobody waits for the store or the executor
	res, err := creation.Create(ctx, req)
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
	return b.sendJSON(c, status, created{res.Task.ID, res.Task.Status, res.Task.ClientRequestID, res.Deduplicated})
}

// createJSON reads a create request's JSON body. A large one waits for its turn.
func (b *Bridge) createJSON(ctx context.Context, c *fiber.Ctx, auth *engine.AuthContext, mine *turn) (engine.CreateRequest, error) {
	body, err := b.readBody(c, auth)
	if err == nil {
		err = mine.take(ctx, len(body))
	}
	if err != nil {
		return engine.CreateRequest{}, err
	}
	return parseCreate(body)
}

// parseCreate holds doc to the schema of a create request and lists everything
// that is wrong. The result keeps nothing of doc.
func parseCreate(doc []byte) (engine.CreateRequest, error) {
	var req engine.CreateRequest
	err := readFields(doc,
		nameField(fieldClientRequestID, &req.ClientRequestID),
		nameField(fieldTaskType, &req.TaskType),
		objectField(fieldInput, &req.Input),
		objectField(fieldMetadata, &req.Metadata))
	return req, err
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
