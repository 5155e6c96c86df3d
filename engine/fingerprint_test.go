package engine

import (
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

func print1(t *testing.T, input string) string {
	t.Helper()
	clean, err := tidyObject([]byte(input), 64<<20, 200)
	if err != nil {
		t.Fatalf("%.60s: %v", input, err)
	}
	fp, err := fingerprint("t", clean, nil)
	if err != nil {
		t.Fatalf("%.60s: %v", input, err)
	}
	return fp
}

func TestFingerprintEqual(t *testing.T) {
	for _, equal := range [][]string{
		{``, `{}`, " {\n} "},
		{`{"a":1,"b":{"c":[1,2],"d":null}}`, ` { "b" : {"d":null,"c":[1.0,2e0]}, "a":10e-1 }`},
		{`{"a":1}`, `{"a":1.0}`, `{"a":1e0}`, `{"a":100e-2}`, `{"a":0.01E+2}`, `{"a":1.000e-0}`, `{"\u0061":1}`},
		{`{"a":0}`, `{"a":-0}`, `{"a":0.000}`, `{"a":-0e999999999999999999999}`},
		{`{"a":1e100000000000000000000}`, `{"a":10e99999999999999999999}`, `{"a":0.1e100000000000000000001}`},
		{`{"a":1e-100000000000000000000}`, `{"a":0.1e-99999999999999999999}`, `{"a":100e-100000000000000000002}`},
		{`{"a":"é\n😀"}`, `{"a":"\u00e9\u000a\ud83d\ude00"}`, `{"a":"\u00E9\n\uD83D\uDE00"}`},
		{`{"a":1,"a":2}`, `{"a":2}`},
		{`{"a":"\/"}`, `{"a":"/"}`},
	} {
		for _, other := range equal[1:] {
			if print1(t, equal[0]) != print1(t, other) {
				t.Errorf("%s and %s are equal", equal[0], other)
			}
		}
	}
}

func TestFingerprintDifferent(t *testing.T) {
	inputs := []string{
		`{}`, `{"a":null}`, `{"a":1}`, `{"a":"1"}`, `{"a":true}`, `{"a":false}`, `{"a":[]}`, `{"a":{}}`, `{"a":[1]}`, `{"a":[[1]]}`,
		`{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[12]}`, `{"a":-1}`, `{"a":10}`, `{"a":0}`, `{"a":1e1000}`, `{"a":1e1001}`,
		`{"a":9007199254740993}`, `{"a":9007199254740992}`, `{"a":0.1}`, `{"a":0.1000000000000000055511151231257827}`,
		`{"a":""}`, `{"a":"\u0000"}`, `{"b":1}`, `{"a":{"b":1}}`, `{"a":"e\u0301"}`, `{"a":"é"}`, `{"a":1,"b":1}`, `{"a":["b",1]}`,
		`{"a":1e100000000000000000000}`, `{"a":1e100000000000000000001}`, `{"a":1e-100000000000000000000}`, `{"A":1}`,
	}
	seen := map[string]string{}
	for _, in := range inputs {
		fp := print1(t, in)
		if other, twice := seen[fp]; twice {
			t.Errorf("%s and %s differ", in, other)
		}
		seen[fp] = in
	}

	input := json.RawMessage(`{}`)
	files := []Attachment{{Name: "a", ContentType: "t/t", SHA256: "1"}, {Name: "b", ContentType: "t/t", SHA256: "2"}}
	base, _ := fingerprint("t", input, files)
	same, _ := fingerprint("t", input, []Attachment{{Name: "a", ContentType: "t/t", SHA256: "1", Ref: "x", Size: 3}, files[1]})
	if base != same {
		t.Error("where an attachment is kept counts")
	}
	for name, other := range map[string]func() (string, error){
		"type":   func() (string, error) { return fingerprint("u", input, files) },
		"order":  func() (string, error) { return fingerprint("t", input, []Attachment{files[1], files[0]}) },
		"number": func() (string, error) { return fingerprint("t", input, files[:1]) },
		"name": func() (string, error) {
			return fingerprint("t", input, []Attachment{{Name: "c", ContentType: "t/t", SHA256: "1"}, files[1]})
		},
		"content type": func() (string, error) {
			return fingerprint("t", input, []Attachment{{Name: "a", ContentType: "t", SHA256: "1"}, files[1]})
		},
		"bytes": func() (string, error) {
			return fingerprint("t", input, []Attachment{{Name: "a", ContentType: "t/t", SHA256: "3"}, files[1]})
		},
	} {
		if fp, err := other(); err != nil || fp == base {
			t.Errorf("%s does not count (%v)", name, err)
		}
	}
}

// A number's text may be long; its value must never be written out.
func TestFingerprintCostsNoMoreThanReading(t *testing.T) {
	start := time.Now()
	for _, n := range []string{
		"1e999999999", "1e-999999999", "1e" + strings.Repeat("9", 1<<20), "-0." + strings.Repeat("0", 1<<20) + "1e" + strings.Repeat("0", 1<<20) + "5",
		strings.Repeat("9", 1<<20) + "e-" + strings.Repeat("8", 1<<20),
	} {
		print1(t, `{"a":`+n+`}`)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// FuzzCanonicalNumber compares with exact arithmetic.
func FuzzCanonicalNumber(f *testing.F) {
	for _, s := range [][2]string{{"1", "1.0"}, {"-0", "0"}, {"100e-2", "1"}, {"0.00120", "12e-4"}, {"1e17", "100000000000000000"}, {"1e99", "10E+98"}} {
		f.Add(s[0], s[1])
	}
	number := func(s string) (*big.Rat, bool) {
		if !json.Valid([]byte(s)) || s != strings.TrimSpace(s) || s[0] != '-' && (s[0] < '0' || s[0] > '9') {
			return nil, false
		}
		if i := strings.IndexAny(s, "eE"); i >= 0 && len(strings.TrimLeft(s[i+1:], "+-0")) > 3 || len(s) > 200 {
			return nil, false
		}
		return new(big.Rat).SetString(s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, ok := number(a)
		if !ok {
			return
		}
		canonical := canonicalNumber(a)
		if back, ok := number(canonical); !ok || back.Cmp(x) != 0 || canonicalNumber(canonical) != canonical {
			t.Fatalf("%s became %s", a, canonical)
		}
		if y, ok := number(b); ok && (x.Cmp(y) == 0) != (canonical == canonicalNumber(b)) {
			t.Fatalf("%s is %s, %s is %s", a, canonical, b, canonicalNumber(b))
		}
	})
}

func TestAddToDecimal(t *testing.T) {
	for _, c := range []struct {
		decimal string
		n       int64
	}{
		{"0", 0}, {"-0", -3}, {"+7", 5}, {"99999999999999999", 1}, {"100000000000000000", -1}, {"999999999999999999999", 1},
		{"1000000000000000000000", -1}, {"-1000000000000000000000", 1}, {"-999999999999999999999", -12345}, {"000123456789012345678901", 99},
		{"123456789012345678901", 1 << 30}, {"-123456789012345678901", -(1 << 30)}, {"-100000000000000000", 7},
	} {
		want, _ := new(big.Int).SetString(c.decimal, 10)
		want.Add(want, big.NewInt(c.n))
		if got := addToDecimal(c.decimal, c.n); got != want.String() {
			t.Errorf("%s + %d = %s, want %s", c.decimal, c.n, got, want)
		}
	}
}

// FuzzFingerprint: whatever order and white space a decoder and encoder leave,
// the fingerprint stays; and members is as encoding/json has it.
func FuzzFingerprint(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,"b",{"c":null}],"d":1.50}`, `{"a":"\ud800"}`, `{"a":1,"a":{"b":2}}`, `{"":[[],{}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		clean, err := tidyObject(raw, 1<<20, 200)
		if err != nil {
			return
		}
		var value map[string]any
		dec := json.NewDecoder(strings.NewReader(string(clean)))
		dec.UseNumber()
		if err := dec.Decode(&value); err != nil {
			t.Fatalf("%q passed: %v", raw, err)
		}
		again, err := json.MarshalIndent(value, " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if print1(t, string(clean)) != print1(t, string(again)) {
			t.Fatalf("%q and %q differ", clean, again)
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(clean, &want) != nil {
			t.Fatal("unreachable")
		}
		got := map[string]json.RawMessage{}
		members(clean, func(name string, value json.RawMessage) bool {
			got[name] = value
			return true
		})
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("members of %q: %q, want %q", clean, got, want)
		}
	})
}
