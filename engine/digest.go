package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// digest writes values so that no two different ones give the same bytes: each begins
// with a tag, and then its length if it has one. JSON is digested in place, without
// being decoded: decoding a megabyte of small values would take fifty in memory and
// nearly a fifth of a second.
type digest struct {
	h   hash.Hash
	buf []byte // not yet in h

	// containers are the arrays and objects of the JSON that is being written, in the
	// order in which they begin.
	containers []container
	// members are the members of the objects that are being written, innermost last.
	members []digestMember
}

// container is an array or object in a JSON text.
type container struct {
	end   uint32 // where its last bracket is
	next  uint32 // the container that begins after that one, as an index
	count uint32 // elements, or members with repetitions
}

// digestMember is a member of an object: its name, unescaped, where its value
// begins, and which container begins there or after that.
type digestMember struct {
	name      []byte
	at        uint32
	container uint32
}

// digestBuffer is how much is gathered for the hash.
const digestBuffer = 4 << 10

func (d *digest) room(n int) {
	if len(d.buf)+n > digestBuffer {
		d.h.Write(d.buf)
		d.buf = d.buf[:0]
	}
}

func (d *digest) count(tag byte, n int) {
	d.room(1 + binary.MaxVarintLen64)
	d.buf = binary.AppendUvarint(append(d.buf, tag), uint64(n))
}

func (d *digest) text(tag byte, s string) { writeText(d, tag, s) }

func writeText[T string | []byte](d *digest, tag byte, s T) {
	d.count(tag, len(s))
	for len(s) > 0 {
		d.room(min(len(s), digestBuffer))
		n := min(len(s), digestBuffer-len(d.buf))
		d.buf = append(d.buf, s[:n]...)
		s = s[n:]
	}
}

func (d *digest) sum() []byte {
	d.h.Write(d.buf)
	d.buf = d.buf[:0]
	return d.h.Sum(nil)
}

var errDigestSize = errors.New("more than 4 GiB of JSON")

// json writes a value, given as valid, compact JSON.
func (d *digest) json(raw []byte) error {
	if len(raw) > math.MaxUint32 {
		return errDigestSize
	}
	d.outline(raw)
	d.value(raw, 0, 0)
	return nil
}

// outline finds the containers of raw.
func (d *digest) outline(raw []byte) {
	d.containers = make([]container, 0, countContainers(raw))
	var open []uint32
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = endOfString(raw, i) - 1
		case '[', '{':
			open = append(open, uint32(len(d.containers)))
			c := container{}
			if raw[i+1] != ']' && raw[i+1] != '}' {
				c.count = 1
			}
			d.containers = append(d.containers, c)
		case ',':
			d.containers[open[len(open)-1]].count++
		case ']', '}':
			c := &d.containers[open[len(open)-1]]
			c.end, c.next = uint32(i), uint32(len(d.containers))
			open = open[:len(open)-1]
		}
	}
}

func countContainers(raw []byte) (n int) {
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = endOfString(raw, i) - 1
		case '[', '{':
			n++
		}
	}
	return n
}

// value writes the value that begins at i and returns where it ends. at is the
// first container that begins at i or later; after is the same of the end.
func (d *digest) value(raw []byte, i int, at uint32) (end int, after uint32) {
	switch raw[i] {
	case 'n':
		d.count('0', 0)
		return i + len("null"), at
	case 't':
		d.count('T', 0)
		return i + len("true"), at
	case 'f':
		d.count('F', 0)
		return i + len("false"), at
	case '"':
		end = endOfString(raw, i)
		writeText(d, 's', unquoted(raw[i:end]))
		return end, at
	case '[':
		c := d.containers[at]
		d.count('[', int(c.count))
		i, after = i+1, at+1
		for range c.count {
			i, after = d.value(raw, i, after)
			i++ // the comma, or the bracket
		}
		return int(c.end) + 1, c.next
	case '{':
		c := d.containers[at]
		d.object(raw, i+1, at)
		return int(c.end) + 1, c.next
	}
	end = endOfValue(raw, i)
	d.number(raw[i:end])
	return end, at
}

// object writes the members that begin at i, those of the container at, by
// their names. Of a name that comes twice the last one counts.
func (d *digest) object(raw []byte, i int, at uint32) {
	c, base, sorted := d.containers[at], len(d.members), true
	after := at + 1
	for n := range c.count {
		end := endOfString(raw, i)
		m := digestMember{name: unquoted(raw[i:end]), at: uint32(end + 1), container: after}
		if n > 0 && bytes.Compare(d.members[len(d.members)-1].name, m.name) >= 0 {
			sorted = false
		}
		d.members = append(d.members, m)
		if i = end + 1; raw[i] == '[' || raw[i] == '{' {
			i, after = int(d.containers[after].end)+1, d.containers[after].next
		} else {
			i = endOfValue(raw, i)
		}
		i++ // the comma, or the bracket
	}
	if !sorted {
		d.members = d.members[:base+sortMembers(d.members[base:])]
	}
	d.count('{', len(d.members)-base)
	for m := base; m < len(d.members); m++ {
		member := d.members[m] // nested objects move the slice
		writeText(d, 'k', member.name)
		d.value(raw, int(member.at), member.container)
	}
	d.members = d.members[:base]
}

// sortMembers sorts by name, keeps the last member of each name, and returns how many
// are kept.
func sortMembers(m []digestMember) int {
	slices.SortFunc(m, func(a, b digestMember) int {
		if c := bytes.Compare(a.name, b.name); c != 0 {
			return c
		}
		return int(int64(a.at) - int64(b.at))
	})
	n := 0
	for i := range m {
		if i+1 < len(m) && bytes.Equal(m[i].name, m[i+1].name) {
			continue
		}
		m[n] = m[i]
		n++
	}
	return n
}

// unquoted returns the text of a valid string literal, as unquote does.
func unquoted(literal []byte) []byte {
	inside := literal[1 : len(literal)-1]
	if bytes.IndexByte(inside, '\\') < 0 {
		return inside
	}
	text := make([]byte, 0, len(inside))
	for i := 0; i < len(inside); i++ {
		if inside[i] != '\\' {
			text = append(text, inside[i])
			continue
		}
		i++
		switch c := inside[i]; c {
		case 'b':
			text = append(text, '\b')
		case 'f':
			text = append(text, '\f')
		case 'n':
			text = append(text, '\n')
		case 'r':
			text = append(text, '\r')
		case 't':
			text = append(text, '\t')
		case 'u':
			r := escaped(inside[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if bytes.HasPrefix(inside[i+1:], []byte(`\u`)) {
					pair = utf16.DecodeRune(r, escaped(inside[i+3:]))
				}
				if r = pair; pair != utf8.RuneError {
					i += 6
				}
			}
			text = utf8.AppendRune(text, r)
		default: // the character itself
			text = append(text, c)
		}
	}
	return text
}

// escaped returns the UTF-16 unit whose four hex digits p begins with.
func escaped(p []byte) rune {
	u, _ := strconv.ParseUint(string(p[:4]), 16, 16) // valid JSON has four
	return rune(u)
}

// number writes a number by its value; see canonicalNumber. Whole numbers, which
// most are, need no memory.
func (d *digest) number(raw []byte) {
	if len(raw) == 1 && raw[0] == '0' {
		writeText(d, '#', raw)
		return
	}
	if len(raw) > 32 || !plainWhole(raw) {
		writeText(d, '#', canonicalNumber(string(raw)))
		return
	}
	trimmed := bytes.TrimRight(raw, "0")
	var text [40]byte
	canonical := append(append(text[:0], trimmed...), 'e')
	writeText(d, '#', strconv.AppendInt(canonical, int64(len(raw)-len(trimmed)), 10))
}

// plainWhole reports whether a number is written without fraction and exponent,
// and is not zero.
func plainWhole(raw []byte) bool {
	for _, c := range raw {
		if c == '.' || c == 'e' || c == 'E' {
			return false
		}
	}
	return raw[0] != '0' && !bytes.HasPrefix(raw, []byte("-0"))
}
