package engine

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestSafeName(t *testing.T) {
	long := strings.Repeat("ä", 300)
	for name, want := range map[string]string{
		"report.pdf":              "report.pdf",
		"Zeugnis für Ölç.docx":    "Zeugnis für Ölç.docx",
		"日本語.txt":                 "日本語.txt",
		".gitignore":              ".gitignore",
		"a.tar.gz":                "a.tar.gz",
		`C:\Users\me\b.txt`:       "b.txt",
		"../../etc/passwd":        "passwd",
		`..\..\boot.ini`:          "boot.ini",
		`a/..\b/../c`:             "c",
		"a/":                      "file",
		"..":                      "file",
		".":                       "file",
		"...":                     "file",
		" . . ":                   "file",
		"":                        "file",
		"a\nb\x00\x7f\u0085c.txt": "abc.txt",
		"invoice\u202efdp.exe":    "invoicefdp.exe",
		"\u2066a\u2069\ufeff.txt": "a.txt",
		"a\u2028b\u00a0c":         "ab c",
		"👩\u200d💻.png":            "👩\u200d💻.png",
		"a:b.txt":                 "a_b.txt",
		`<a>|"b"?*.txt`:           "_a___b___.txt",
		"name. . ":                "name",
		"CON":                     "_CON",
		"nul.txt":                 "_nul.txt",
		"Com1 .tar.gz":            "_Com1 .tar.gz",
		"LPT²":                    "_LPT²",
		"conin$":                  "_conin$",
		"COM10.txt":               "COM10.txt",
		"console.log":             "console.log",
		long + ".pdf":             strings.Repeat("ä", 125) + ".pdf",
		long:                      strings.Repeat("ä", 127),
		"a." + long:               "a." + strings.Repeat("ä", 126),
	} {
		if got := safeName(name); got != want {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	}
}

func FuzzSafeName(f *testing.F) {
	for _, s := range []string{"a", "../a", `..\a`, "a/..", "", ".", "\x00/\xff", "ü/ñ", "NUL.", strings.Repeat("x", 300) + ".y", "a\u202eb", strings.Repeat(" ", 300) + "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := safeName(s)
		if !utf8.ValidString(s) {
			if checkName(name) == "" {
				t.Errorf("%q became %q", s, name)
			}
			return
		}
		if checkName(name) != "" || len(name) > maxFileName || strings.ContainsAny(name, `/\:`) || strings.Trim(name, ". ") == "" || isDevice(name) ||
			strings.ContainsFunc(name, func(r rune) bool { return unicode.Is(unicode.Bidi_Control, r) }) {
			t.Errorf("%q became %q", s, name)
		}
		if again := safeName(name); again != name {
			t.Errorf("%q became %q, then %q", s, name, again)
		}
	})
}
