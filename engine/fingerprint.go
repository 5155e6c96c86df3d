package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
)

// fingerprintVersion changes when two requests that were equal would no longer
// be, so that records of an older version are seen for what they are.
const fingerprintVersion = "1:"

// fingerprint stands for the content of a create request. Equal are requests of
// the same type, with JSON-equal input and the same attachments in the same
// order (name, type and bytes). Metadata does not count.
//
// JSON-equal: objects whatever the order of their keys; numbers by value, with
// all their digits (see canonicalNumber); strings after unescaping, where half
// a surrogate pair is U+FFFD. Of a key that comes twice the last one counts, as
// it does for the decoder of whoever runs the task.
//
// input must be valid, compact JSON (tidyObject).
func fingerprint(taskType string, input json.RawMessage, files []Attachment) (string, error) {
	d := digest{h: sha256.New()}
	d.text('t', taskType)
	if err := d.json(input); err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	d.count('f', len(files))
	for _, f := range files {
		d.text('n', f.Name)
		d.text('c', f.ContentType)
		d.text('b', f.SHA256)
	}
	return fingerprintVersion + hex.EncodeToString(d.sum()), nil
}

// canonicalNumber writes a JSON number so that equal values, and only those,
// give the same text: its digits without leading and trailing zeros as a whole
// number, "e", and the power of ten. 1, 1.0, 1e0 and 100e-2 all give 1e0, -0
// gives 0. Nothing is ever computed with the value itself, so neither a
// thousand digits nor an exponent of a thousand digits costs more than reading
// them.
func canonicalNumber(n string) string {
	sign := ""
	if n[0] == '-' {
		sign, n = "-", n[1:]
	}
	exponent := "0"
	if i := strings.IndexAny(n, "eE"); i >= 0 {
		n, exponent = n[:i], n[i+1:]
	}
	whole, fraction, _ := strings.Cut(n, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0"
	}
	trimmed := strings.TrimRight(digits, "0")
	shift := len(digits) - len(trimmed) - len(fraction)
	return sign + trimmed + "e" + addToDecimal(exponent, int64(shift))
}

// addToDecimal adds n, which is small, to a whole number in decimal with an
// optional sign.
func addToDecimal(decimal string, n int64) string {
	negative := decimal[0] == '-'
	digits := strings.TrimLeft(strings.TrimLeft(decimal, "+-"), "0")
	if len(digits) <= 17 {
		var v int64
		for i := range len(digits) {
			v = v*10 + int64(digits[i]-'0')
		}
		if negative {
			v = -v
		}
		return strconv.FormatInt(v+n, 10)
	}
	// |decimal| >= 10^17 and n counts bytes of one request: the sign stays.
	// From the last digit, add with carry (n or -n, by the sign).
	if negative {
		n = -n
	}
	out := []byte(digits)
	for i := len(out) - 1; i >= 0 && n != 0; i-- {
		sum := int64(out[i]-'0') + n
		digit := sum % 10
		if digit < 0 {
			digit += 10
		}
		out[i] = byte('0' + digit)
		n = (sum - digit) / 10
	}
	if n > 0 {
		out = append(strconv.AppendInt(nil, n, 10), out...)
	}
	s := strings.TrimLeft(string(out), "0")
	if negative {
		s = "-" + s
	}
	return s
}
