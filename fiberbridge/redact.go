package fiberbridge

import (
	"strings"

	"github.com/gofiber/fiber/v2"
)

const (
	// shortestSecret is the length from which a word that is also in a request is
	// kept out of the log. Words of the language are shorter, mostly.
	shortestSecret = 4
	// redacted stands for what was kept out.
	redacted = "[redacted]"
	// longestLogged bounds an error in the log, whatever it drags along.
	longestLogged = 8 << 10
	// shortestID and longestID are of ids that are kept out wherever they come
	// from: those of tasks.
	shortestID = 16
	longestID  = 64
)

// givenKey marks what a request brought in its body, for forLog.
type givenKey struct{}

// remember notes what a request brought in its body, for as long as its handler
// runs.
func remember(c *fiber.Ctx, brought func() []string) { c.Locals(givenKey{}, brought) }

// forLog is what the log may say of an error that may be a host's, or quote one:
// its text without what that repeats of the request's credentials, query and body,
// and without the ids of tasks, which may be those of others.
func forLog(c *fiber.Ctx, err error) string {
	text := err.Error()
	if len(text) > longestLogged {
		text = text[:longestLogged] + " [cut]"
	}
	given := credentialsOf(c)
	if brought, ok := c.Locals(givenKey{}).(func() []string); ok {
		given += "\n" + strings.Join(brought(), "\n")
	}
	return eachWord(text, func(word string) bool {
		return looksLikeID(word) || len(word) >= shortestSecret && strings.Contains(given, word)
	})
}

// eachWord is text without the words that secret says are ones.
func eachWord(text string, secret func(word string) bool) string {
	var out strings.Builder
	for len(text) > 0 {
		end := strings.IndexFunc(text, func(r rune) bool { return !inToken(r) })
		if end < 0 {
			end = len(text)
		}
		if word := text[:end]; secret(word) {
			out.WriteString(redacted)
		} else {
			out.WriteString(word)
		}
		text = text[end:]
		next := strings.IndexFunc(text, inToken)
		if next < 0 {
			next = len(text)
		}
		out.WriteString(text[:next])
		text = text[next:]
	}
	return out.String()
}

// inToken reports whether r may be inside a word. Tokens hold more than these
// characters, and fall into words, as sentences and URLs do.
func inToken(r rune) bool {
	return r > 0x7f || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_'
}

// looksLikeID reports whether a word has the form of a task's id or of a UUID.
// Those that are words of a language, or names of machines, have not both letters
// and digits, or more than these.
func looksLikeID(word string) bool {
	if len(word) == 36 && strings.Count(word, "-") == 4 {
		word = strings.ToLower(strings.ReplaceAll(word, "-", ""))
	}
	if len(word) < shortestID || len(word) > longestID {
		return false
	}
	letters, digits := false, false
	for i := range len(word) {
		switch c := word[i]; {
		case c >= 'a' && c <= 'z':
			letters = true
		case c >= '0' && c <= '9':
			digits = true
		default:
			return false
		}
	}
	return letters && digits
}
