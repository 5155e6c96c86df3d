package engine

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNameLength bounds, in characters, what a client names things with.
const maxNameLength = 255

// defaultContentType is RFC 2046's for bytes of which nothing is known.
const defaultContentType = "application/octet-stream"

// checkCreate returns req in the form in which it is compared and stored, in
// memory of its own, or REQUEST_VALIDATION_ERROR with all that is wrong.
func (l Limits) checkCreate(req CreateRequest) (CreateRequest, error) {
	var wrong []FieldError
	note := func(field, message string) {
		if message != "" {
			wrong = append(wrong, FieldError{field, message})
		}
	}
	note("clientRequestId", checkName(req.ClientRequestID))
	note("taskType", checkName(req.TaskType))

	input, err := tidyObject(req.Input, l.InputBytes, l.Nesting)
	if err != nil {
		note("input", err.Error())
	}
	metadata, err := tidyObject(req.Metadata, l.InputBytes, l.Nesting)
	if err != nil {
		note("metadata", err.Error())
	}
	files := slices.Clone(req.Files)
	for i := range files {
		f := &files[i]
		f.Name = strings.Clone(safeName(f.Name))
		if f.ContentType == "" {
			f.ContentType = defaultContentType
		}
		f.ContentType = strings.Clone(f.ContentType)
		note(attachmentField(i)+".name", checkName(f.Name))
		note(attachmentField(i)+".contentType", checkName(f.ContentType))
	}
	if err := invalid(wrong); err != nil {
		return CreateRequest{}, err
	}
	return CreateRequest{
		ClientRequestID: strings.Clone(req.ClientRequestID),
		TaskType:        strings.Clone(req.TaskType),
		Input:           input,
		Metadata:        metadata,
		Files:           files,
	}, nil
}

// checkName holds a name that will stand in logs, keys and headers against
// what may: 1 to 255 characters, UTF-8, none of them a control character.
func checkName(s string) string {
	switch {
	case s == "":
		return "is missing"
	case len(s) > maxNameLength*utf8.UTFMax, utf8.RuneCountInString(s) > maxNameLength:
		return fmt.Sprintf("is longer than %d characters", maxNameLength)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "contains a control character"
	}
	return ""
}
