package fiberbridge

import (
	"bytes"
	"errors"
	"mime"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// sniffBytes is how much of a file is looked at to tell its type.
const sniffBytes = 4096

// The type of bytes that nothing is known of (RFC 2046 section 4.5.1), and
// that clients send who declare nothing.
const unknownType = "application/octet-stream"

var (
	errTypeMalformed = errors.New("has a malformed Content-Type")
	errTypeNested    = errors.New("is a form within the form, which is not supported")
)

// typeMismatch says that a file is not what it is declared as.
type typeMismatch struct{ declared, found string }

func (e typeMismatch) Error() string {
	return "is declared as " + shorten(e.declared) + ", but its content is not" + e.hint()
}

func (e typeMismatch) hint() string {
	if e.found == unknownType {
		return ""
	}
	return " (it looks like " + e.found + ")"
}

// fileType returns the type that a file is kept with: the declared one,
// normalised, if the content agrees with it, and without one what the content
// looks like. head is the file's beginning. An empty file agrees with
// everything.
func fileType(declared string, head []byte) (string, error) {
	media, params := unknownType, map[string]string(nil)
	if declared != "" {
		var err error
		media, params, err = mime.ParseMediaType(declared)
		if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || !strings.Contains(media, "/") {
			return "", errTypeMalformed
		}
	}
	switch {
	case strings.HasPrefix(media, "multipart/"):
		return "", errTypeNested
	case media == unknownType:
		return sniff(head).media, nil
	case len(head) > 0:
		if c := sniff(head); !c.fits(media) {
			return "", typeMismatch{media, c.media}
		}
	}
	if full := mime.FormatMediaType(media, params); full != "" {
		return full, nil
	}
	return media, nil
}

// content is what a file's beginning shows.
type content struct {
	head  []byte
	found *mimetype.MIME
	media string // of found, without parameters
	text  bool   // may be text, whatever found says
}

func sniff(head []byte) (c content) {
	head = head[:min(len(head), sniffBytes)]
	c = content{head: head, media: unknownType}
	if len(head) == 0 {
		return c
	}
	c.found = detect(head)
	if media, _, err := mime.ParseMediaType(c.found.String()); err == nil {
		c.media = media
	}
	c.text = looksLikeText(head) && !c.is("application/pdf", "application/vnd.fdf")
	if c.media == unknownType && c.text { // two of its letters looked like something else
		c.media = "text/plain"
	}
	return c
}

// detect never fails: a detector that trips over hostile bytes must not take
// the process with it.
func detect(head []byte) (found *mimetype.MIME) {
	defer func() {
		if recover() != nil {
			found = mimetype.Lookup(unknownType)
		}
	}()
	return mimetype.Detect(head)
}

// is reports whether the content is one of these types.
func (c content) is(types ...string) bool {
	for _, t := range types {
		if c.found.Is(t) {
			return true
		}
	}
	return false
}

// within reports whether the content is one of these types or a special case
// of one: a docx is within application/zip.
func (c content) within(types ...string) bool {
	for m := c.found; m != nil; m = m.Parent() {
		for _, t := range types {
			if m.Is(t) {
				return true
			}
		}
	}
	return false
}

// fits reports whether the content may be of the declared type. It looks for
// contradictions, not for proof: text has no signature, office documents are
// zip containers whose parts may come too late to be seen, and half of the
// types in the world no list knows. What could be taken for something that a
// browser runs or renders (HTML, SVG, images) is held to its signature.
func (c content) fits(declared string) bool {
	top, sub, _ := strings.Cut(declared, "/")
	switch {
	case isJSONType(declared):
		return c.text && (c.within("application/json", "application/x-ndjson") ||
			!c.markup() && looksLikeJSON(c.head))
	case declared == "image/svg+xml":
		return c.text && (c.is(declared) || !c.is("text/html") && bytes.Contains(c.head, []byte("<svg")))
	case declared == "text/html", declared == "application/xhtml+xml":
		return c.text && !c.within("image/svg+xml", "application/json")
	case declared == "text/xml", declared == "application/xml", strings.HasSuffix(sub, "+xml") && !c.within(declared, "application/zip"):
		return c.within("text/xml", "image/svg+xml") || c.text && !c.is("text/html") && firstByte(c.head) == '<'
	case top == "text":
		return c.text
	}
	known := mimetype.Lookup(declared)
	if known == nil {
		return c.fitsUnknown(top, sub)
	}
	if c.within(declared) || c.fitsContainer(known, top) || c.fitsByCustom(declared) {
		return true
	}
	return c.text && top == "application" && below(known, "text/plain")
}

// fitsUnknown is fits for a type that mimetype does not know.
func (c content) fitsUnknown(top, sub string) bool {
	kind, _, _ := strings.Cut(c.media, "/")
	switch {
	case strings.HasSuffix(sub, "+zip"):
		return c.within("application/zip")
	case c.is("text/html", "image/svg+xml", "application/pdf"):
		return false
	case kind == "image", kind == "audio", kind == "video", kind == "font":
		return kind == top || isMotion(kind) && isMotion(top) ||
			c.is("audio/mpeg") && top != "image" && top != "font" // mp3 has a weak signature
	case top == "image", top == "audio", top == "video", top == "font":
		return !c.text && c.is(unknownType)
	}
	return true
}

// fitsContainer takes a container whose kind does not show yet for what is
// declared, and pictures and sound of one family for one another.
func (c content) fitsContainer(known *mimetype.MIME, top string) bool {
	for _, container := range []string{"application/zip", "application/x-ole-storage"} {
		if c.is(container) && below(known, container) {
			return true
		}
	}
	kind, _, _ := strings.Cut(c.media, "/")
	if (isMotion(top) || known.Is("application/ogg")) && (isMotion(kind) || c.is("application/ogg")) {
		return true
	}
	return isHEIF(known) && isHEIF(c.found)
}

// fitsByCustom knows what well-meaning clients declare wrongly, and types whose
// files often have no signature.
func (c content) fitsByCustom(declared string) bool {
	switch declared {
	case "application/vnd.ms-excel", "application/msexcel": // what Windows with Excel calls CSV
		return c.text && !c.markup()
	case "application/msword", "application/vnd.ms-word": // Word saves RTF as .doc
		return c.is("text/rtf")
	case "audio/mpeg", "audio/mp3", "audio/x-mpeg", "audio/aac", "video/mpeg":
		return !c.text && c.is(unknownType)
	}
	return false
}

// markup reports whether a browser would render the content.
func (c content) markup() bool { return c.within("text/html", "image/svg+xml", "text/xml") }

func isMotion(top string) bool { return top == "audio" || top == "video" }

func isHEIF(m *mimetype.MIME) bool {
	return m.Is("image/heic") || m.Is("image/heif") || m.Is("image/heic-sequence") || m.Is("image/heif-sequence")
}

// below reports whether m is a special case of a type, or the type itself.
func below(m *mimetype.MIME, of string) bool {
	for ; m != nil; m = m.Parent() {
		if m.Is(of) {
			return true
		}
	}
	return false
}

func isJSONType(media string) bool {
	switch media {
	case "application/json", "text/json", "text/x-json", "application/x-ndjson", "application/jsonl", "application/jsonlines":
		return true
	}
	return strings.HasSuffix(media, "+json") || strings.HasSuffix(media, "+json-seq") || strings.HasSuffix(media, "/json-seq")
}

// looksLikeJSON takes any JSON value's beginning for JSON.
func looksLikeJSON(head []byte) bool {
	switch b := firstByte(head); b {
	case '{', '[', '"', '-', 0x1e: // the last one begins a JSON text sequence
		return true
	case 't', 'f', 'n':
		rest := head[bytes.IndexByte(head, b):]
		return bytes.HasPrefix(rest, []byte("true")) || bytes.HasPrefix(rest, []byte("false")) || bytes.HasPrefix(rest, []byte("null"))
	default:
		return b >= '0' && b <= '9'
	}
}

// firstByte is the first one behind a byte order mark and spaces; 0 if there
// is none.
func firstByte(head []byte) byte {
	for _, mark := range byteOrderMarks {
		head = bytes.TrimPrefix(head, mark)
	}
	if head = bytes.TrimLeft(head, jsonSpace+"\x00"); len(head) == 0 {
		return 0
	}
	return head[0]
}

var byteOrderMarks = [][]byte{{0xef, 0xbb, 0xbf}, {0xff, 0xfe}, {0xfe, 0xff}}

// looksLikeText is the standard's test (WHATWG MIME Sniffing, section 7.1):
// a byte order mark, or none of the bytes that no text has.
func looksLikeText(head []byte) bool {
	for _, mark := range byteOrderMarks {
		if bytes.HasPrefix(head, mark) {
			return true
		}
	}
	for _, b := range head {
		if b <= 0x08 || b == 0x0b || b >= 0x0e && b <= 0x1a || b >= 0x1c && b <= 0x1f {
			return b == 0x1e && firstByte(head) == 0x1e // a JSON text sequence
		}
	}
	return true
}
