package fiberbridge

import (
	"bytes"
	"io"
	"mime"
	"net/textproto"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// isFileField reports whether files are taken under a field's name: the two of
// fileFields, also as PHP and Rails write lists, "attachments[]" and
// "attachments[0]". The order is that of the form, whatever the numbers.
func isFileField(field string) bool { return fileFieldPattern.MatchString(field) }

var fileFieldPattern = regexp.MustCompile(`^attachments?(\[[0-9]{0,9}\])?$`)

// isTextField reports whether a field's text is part of a create request.
func isTextField(field string) bool {
	switch field {
	case fieldClientRequestID, fieldTaskType, fieldInput, fieldMetadata:
		return true
	}
	return false
}

// partHead is what the head of a form's part says.
type partHead struct {
	field string
	name  string // of the file, "" if there is none
	file  bool   // there is a parameter for the file's name, empty perhaps
}

// readPartHead reads a part's head. damage says what is wrong with it, for the
// client; field and file are guesses then. mime/multipart treats a head that it
// cannot parse as one without a name, and the part would be lost.
func readPartHead(header textproto.MIMEHeader) (head partHead, damage string) {
	lines := header.Values("Content-Disposition")
	if len(lines) != 1 {
		return guessPartHead(strings.Join(lines, "; ")), "must have one Content-Disposition"
	}
	kind, params, err := mime.ParseMediaType(lines[0])
	switch {
	case err != nil:
		return guessPartHead(lines[0]), "has a Content-Disposition that cannot be parsed: " + shorten(strings.ToValidUTF8(lines[0], "\uFFFD"))
	case kind != "form-data":
		return guessPartHead(lines[0]), "has a Content-Disposition that is not form-data"
	case params["name"] == "":
		return guessPartHead(lines[0]), "has no field name"
	}
	head.field = params["name"]
	head.name, head.file = params["filename"]
	if !head.file && extendedName.MatchString(lines[0]) {
		head.file = true
		return head, "has a file name in a character set other than UTF-8"
	}
	if head.name != "" {
		head.name = filepath.Base(head.name) // as mime/multipart has it
	}
	switch encoding := header.Get("Content-Transfer-Encoding"); strings.ToLower(encoding) {
	case "", "binary", "8bit", "7bit", "quoted-printable": // the last one is decoded, or was
	default:
		return head, "has a Content-Transfer-Encoding that is not supported"
	}
	return head, ""
}

// extendedName finds the parameter filename*, which is dropped if it cannot be
// decoded.
var extendedName = regexp.MustCompile(`(?i);\s*filename\*`)

// guessPartHead finds in a head that cannot be parsed what an answer names it
// by.
func guessPartHead(disposition string) partHead {
	head := partHead{file: strings.Contains(strings.ToLower(disposition), "filename")}
	if m := fieldNamePattern.FindStringSubmatch(disposition); m != nil {
		head.field = strings.ToValidUTF8(m[1]+m[2], "\uFFFD")
	}
	return head
}

var fieldNamePattern = regexp.MustCompile(`(?i)[;\s]name\s*=\s*(?:"([^"]*)"|([^";\s]+))`)

// beginForm returns the form in r, from its beginning. What stands before a
// form's first boundary would be skipped without a word; clients send nothing
// there, so it is a boundary that was damaged, with a part behind it.
func beginForm(r io.Reader, boundary string) (io.Reader, error) {
	first := make([]byte, len(boundary)+4)
	n, err := io.ReadFull(r, first)
	if err != nil && n == 0 {
		return nil, malformedForm(err)
	}
	first = first[:n]
	if !bytes.HasPrefix(bytes.TrimLeft(first, "\r\n"), []byte("--"+boundary)) {
		return nil, malformedForm(err)
	}
	return io.MultiReader(bytes.NewReader(first), r), nil
}

// ignoresField reports whether the host has no use for files under a name.
func (u UploadConfig) ignoresField(field string) bool { return slices.Contains(u.IgnoreFields, field) }
