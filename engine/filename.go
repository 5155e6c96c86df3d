package engine

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// defaultFileName stands for a file whose name was nothing but what a name may
// not have.
const defaultFileName = "file"

// maxFileName is what the usual file systems take, in bytes.
const maxFileName = 255

// safeName makes a name that a host can use as it is, on any system and on any
// screen: no directory of either slash (old browsers send whole paths, and not
// only of the system that the server runs on), nothing invisible or reordering,
// nothing that means a device, a stream or a wildcard on Windows, at most 255
// bytes with the extension kept. Text that is no UTF-8 is left to checkName.
func safeName(name string) string {
	if !utf8.ValidString(name) {
		return name
	}
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`<>:"|?*`, r):
			return '_'
		case r == '\u200c', r == '\u200d': // they join letters and emoji
			return r
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp), r == utf8.RuneError:
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, name)
	name = trimName(name)
	if isDevice(name) {
		name = "_" + name
	}
	if name = shortenName(name); name == "" {
		return defaultFileName
	}
	return name
}

// trimName drops what Windows drops silently, which would make two names one.
func trimName(name string) string { return strings.TrimRight(strings.TrimSpace(name), ". ") }

// isDevice reports whether Windows takes name for a device, whatever extension
// it has.
func isDevice(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	for _, port := range []string{"COM", "LPT"} {
		if digit, ok := strings.CutPrefix(stem, port); ok && utf8.RuneCountInString(digit) == 1 {
			return strings.ContainsAny(digit, "0123456789¹²³")
		}
	}
	return false
}

// shortenName cuts a name to maxFileName bytes, between characters, before its
// extension.
func shortenName(name string) string {
	if len(name) <= maxFileName {
		return name
	}
	extension := ""
	if dot := strings.LastIndexByte(name, '.'); dot > 0 && len(name)-dot <= 32 {
		name, extension = name[:dot], name[dot:]
	}
	end := maxFileName - len(extension)
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return trimName(name[:end]) + extension
}
