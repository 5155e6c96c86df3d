package fiberbridge

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"mime"
	"strings"
	"testing"
	"unicode/utf16"
)

// samples are small files, by what they are.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	picture := image.NewPaletted(image.Rect(0, 0, 2, 2), color.Palette{color.Black, color.White})
	var pngFile, jpegFile, gifFile bytes.Buffer
	for _, err := range []error{png.Encode(&pngFile, picture), jpeg.Encode(&jpegFile, picture, nil), gif.Encode(&gifFile, picture, nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	archive := func(names ...string) []byte {
		var buf bytes.Buffer
		z := zip.NewWriter(&buf)
		for _, name := range names {
			w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
			if err != nil {
				t.Fatal(err)
			}
			content := "<x/>"
			if name == "mimetype" {
				content = "application/vnd.oasis.opendocument.text"
			}
			_, _ = w.Write([]byte(content))
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	many := make([]string, 200)
	for i := range many {
		many[i] = "customXml/" + strings.Repeat("x", i+1)
	}
	wide := binary.LittleEndian.AppendUint16(nil, 0xfeff)
	for _, u := range utf16.Encode([]rune("häuser;1\r\n")) {
		wide = binary.LittleEndian.AppendUint16(wide, u)
	}
	ole := append([]byte{0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1}, make([]byte, 600)...)
	return map[string][]byte{
		"png": pngFile.Bytes(), "jpeg": jpegFile.Bytes(), "gif": gifFile.Bytes(),
		"webp":       []byte("RIFF\x24\x00\x00\x00WEBPVP8 \x18\x00\x00\x00"),
		"svg":        []byte("<?xml version=\"1.0\"?>\n<!-- x -->\n<svg xmlns=\"http://www.w3.org/2000/svg\"><script>1</script></svg>"),
		"bare svg":   []byte("<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
		"html":       []byte("<!DOCTYPE html><html><script>alert(1)</script></html>"),
		"html+svg":   []byte("<html><body><svg></svg></body></html>"),
		"xml":        []byte("<?xml version=\"1.0\"?><a>b</a>"),
		"xml, bare":  []byte("<invoice>1</invoice>"),
		"json":       []byte("{\"a\": [1, 2, {\"b\": null}]}"),
		"json value": []byte(" \n42"),
		"ndjson":     []byte("{\"a\":1}\n{\"a\":2}\n"),
		"text":       []byte("just some words, and a few more\n"),
		"latin1":     []byte("Gr\xfc\xdfe aus K\xf6ln"),
		"utf16":      wide,
		"bom":        []byte("\xef\xbb\xbf{\"a\":1}"),
		"markdown":   []byte("<h1 align=\"center\">Project</h1>\n\nWords.\n"),
		"csv":        []byte("a,b,c\n1,2,3\n4,5,6\n"),
		"script":     []byte("#!/bin/sh\necho hi\n"),
		"js":         []byte("const a = {b: 1}\n"),
		"yaml":       []byte("a:\n  - b\n"),
		"rtf":        []byte(`{\rtf1\ansi hello}`),
		"pdf":        []byte("%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"),
		"zip":        archive("a.txt", "b/c.txt"),
		"docx":       archive("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
		"docx, late": archive(append([]string{"[Content_Types].xml"}, many...)...),
		"xlsx":       archive("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"),
		"odt":        archive("mimetype", "content.xml"),
		"jar":        archive("META-INF/MANIFEST.MF", "a.class"),
		"ole":        ole,
		"gzip":       append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3}, make([]byte, 20)...),
		"mp4":        []byte("\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"),
		"heic":       []byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"),
		"webm":       []byte("\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm"),
		"wav":        []byte("RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00"),
		"mp3":        []byte("ID3\x03\x00\x00\x00\x00\x0f\x76"),
		"exe":        append([]byte("MZ\x90\x00\x03\x00\x00\x00"), make([]byte, 100)...),
		"noise":      {0x01, 0x93, 0xfe, 0x00, 0x07, 0x81, 0x12, 0xd9, 0x00, 0x44},
		"empty":      {},
	}
}

func TestFileType(t *testing.T) {
	files := samples(t)
	const (
		docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
		xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
		odt  = "application/vnd.oasis.opendocument.text"
	)
	for _, tt := range []struct {
		declared string
		fits     string // names of samples, separated by "; "
		not      string
	}{
		{"image/png", "png; empty", "jpeg; gif; svg; html; text; pdf; zip; exe; noise; json"},
		{"IMAGE/JPEG", "jpeg", "png; html; noise; heic"},
		{"image/jpg", "jpeg", "html; svg; text; pdf; exe; mp3"},
		{"image/heic", "heic", "mp4; jpeg; text"},
		{"image/heif", "heic", "png"},
		{"image/x-raw-of-some-camera", "noise; jpeg", "text; html; pdf; mp4"},
		{"image/svg+xml", "svg; bare svg", "html; html+svg; png; text; json; xml; gzip"},

		{"text/html", "html; html+svg; text; markdown", "svg; json; png; pdf; exe; noise"},
		{"text/plain", "text; latin1; utf16; bom; json; csv; html; svg; script; yaml; rtf", "png; pdf; zip; ole; exe; noise; mp3; gzip"},
		{"text/plain; charset=UTF-8", "text; empty", "jpeg"},
		{"text/markdown", "markdown; text", "pdf; noise"},
		{"text/csv", "csv; text; utf16; json", "xlsx; ole; noise"},
		{"text/javascript", "js; json; text", "png; zip"},
		{"application/javascript", "js; text", "png; zip"},
		{"application/x-sh", "script; text", "exe"},
		{"application/yaml", "yaml; json; text", "html; svg; png; pdf"},

		{"application/json", "json; json value; ndjson; bom", "text; html; svg; xml; png; zip; noise; csv; yaml"},
		{"application/problem+json", "json", "html; text"},
		{"application/x-ndjson", "ndjson; json", "csv; html"},
		{"application/xml", "xml; xml, bare; svg", "html; json; text; zip; noise"},
		{"text/xml; charset=utf-8", "xml; xml, bare; svg", "html; json; text"},
		{"application/rss+xml", "xml; xml, bare", "html; zip; text"},

		{"application/pdf", "pdf", "text; html; zip; png; noise"},
		{"application/zip", "zip; docx; odt; jar", "text; gzip; ole; noise; pdf"},
		{"application/x-zip-compressed", "zip; docx", "gzip; html"},
		{docx, "docx; docx, late; zip", "xlsx; jar; ole; text; html; pdf; noise"},
		{xlsx, "xlsx; zip", "docx; csv; ole"},
		{odt, "odt; zip", "docx; text"},
		{"application/vnd.ms-word.document.macroEnabled.12", "docx; zip", "html; png"},
		{"application/x-thing+zip", "zip; docx", "text; png"},
		{"application/msword", "ole; rtf", "docx; text; html; noise"},
		{"application/vnd.ms-excel", "ole; csv; text", "html; svg; png; docx; noise"},
		{"application/gzip", "gzip", "zip; text"},
		{"application/x-tgz", "gzip; noise; text", "html; png; pdf"},

		{"video/mp4", "mp4", "png; text; html; zip; noise"},
		{"audio/mp4", "mp4", "png; noise"},
		{"audio/webm", "webm; mp4", "pdf"},
		{"audio/mpeg", "mp3; noise", "text; html; zip"},
		{"audio/x-wav", "wav; mp3", "html; noise"},
		{"audio/of-a-phone", "mp3; noise; mp4", "png; text"},

		{"application/x-acme", "noise; text; json; xml; zip; ole; gzip; exe", "png; html; svg; pdf; mp4"},
		{"x/y", "text; noise; json", "html; png"},
	} {
		for want, names := range map[bool]string{true: tt.fits, false: tt.not} {
			for name := range strings.SplitSeq(names, "; ") {
				head, ok := files[name]
				if !ok {
					t.Fatalf("no sample %q", name)
				}
				got, err := fileType(tt.declared, head)
				if (err == nil) != want {
					t.Errorf("%s declared as %s: %q, %v (found %s)", name, tt.declared, got, err, sniff(head).media)
				}
				media, _, _ := mime.ParseMediaType(tt.declared)
				if kept, _, _ := mime.ParseMediaType(got); err == nil && kept != media {
					t.Errorf("%s declared as %s is kept as %s", name, tt.declared, got)
				}
			}
		}
	}
}

func TestFileTypeUndeclared(t *testing.T) {
	files := samples(t)
	for name, want := range map[string]string{
		"png": "image/png", "jpeg": "image/jpeg", "svg": "image/svg+xml", "html": "text/html", "xml": "text/xml",
		"json": "application/json", "ndjson": "application/x-ndjson", "csv": "text/csv", "text": "text/plain", "utf16": "text/plain",
		"pdf": "application/pdf", "zip": "application/zip", "ole": "application/x-ole-storage", "mp4": "video/mp4",
		"docx":  "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
		"noise": "application/octet-stream", "empty": "application/octet-stream",
	} {
		for _, declared := range []string{"", "application/octet-stream", "Application/Octet-Stream; x=y"} {
			if got, err := fileType(declared, files[name]); got != want || err != nil {
				t.Errorf("%s declared as %q: %q, %v", name, declared, got, err)
			}
		}
	}
}

func TestFileTypeMalformed(t *testing.T) {
	for declared, want := range map[string]error{
		"image": errTypeMalformed, "/png": errTypeMalformed, "a b/c": errTypeMalformed, ";": errTypeMalformed, "text/plain/x": errTypeMalformed,
		"multipart/mixed; boundary=x": errTypeNested, "MultiPart/form-data": errTypeNested,
	} {
		if got, err := fileType(declared, []byte("x")); !errors.Is(err, want) {
			t.Errorf("%q gave %q, %v", declared, got, err)
		}
	}
	if got, err := fileType("Text/Plain; Charset=\"utf-8\"", []byte("x")); got != "text/plain; charset=utf-8" || err != nil {
		t.Error(got, err)
	}
	if got, err := fileType("text/plain; charset=\"", []byte("x")); got != "text/plain" || err != nil {
		t.Error(got, err)
	}
}

func FuzzFileType(f *testing.F) {
	for name, head := range samples(f) {
		f.Add("image/png", head)
		f.Add("", head)
		f.Add("application/"+strings.Split(name, " ")[0], head)
	}
	f.Fuzz(func(t *testing.T, declared string, head []byte) {
		got, err := fileType(declared, head)
		if err != nil {
			return
		}
		media, _, err := mime.ParseMediaType(got)
		if err != nil || !strings.Contains(media, "/") {
			t.Fatalf("%q gave %q, %v", declared, got, err)
		}
		if again, err := fileType(got, head); media != unknownType && (err != nil || again != got) {
			t.Fatalf("%q gave %q, then %q, %v", declared, got, again, err)
		}
	})
}
