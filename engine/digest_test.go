package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-json"
)

// decodedPrint is fingerprint by way of decoded values, as it was first written:
// what records hold must stay comparable.
func decodedPrint(t *testing.T, taskType string, input []byte) string {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(input))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		t.Fatalf("%.60q: %v", input, err)
	}
	h := sha256.New()
	digestText(h, 't', taskType)
	digestDecoded(h, value)
	digestCount(h, 'f', 0)
	return fingerprintVersion + hex.EncodeToString(h.Sum(nil))
}

func digestCount(h hash.Hash, tag byte, n int) {
	h.Write(binary.AppendUvarint([]byte{tag}, uint64(n)))
}

func digestText(h hash.Hash, tag byte, s string) {
	digestCount(h, tag, len(s))
	h.Write([]byte(s))
}

func digestDecoded(h hash.Hash, v any) {
	switch v := v.(type) {
	case nil:
		digestCount(h, '0', 0)
	case bool:
		digestCount(h, map[bool]byte{true: 'T', false: 'F'}[v], 0)
	case string:
		digestText(h, 's', v)
	case json.Number:
		digestText(h, '#', canonicalNumber(string(v)))
	case []any:
		digestCount(h, '[', len(v))
		for _, e := range v {
			digestDecoded(h, e)
		}
	case map[string]any:
		digestCount(h, '{', len(v))
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			digestText(h, 'k', name)
			digestDecoded(h, v[name])
		}
	}
}

// What is digested where it stands is what its decoded values are.
func FuzzDigest(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":[1,"b",{"c":null}],"d":1.50,"e":-120,"f":[true,false,[],{}]}`, `{"b":1,"a":{"z":[{},[[]]],"y":2},"b":{"c":0}}`,
		`{"\u0061":1,"a":2,"A":{"\ud800":"\ud83d\ude00"}}`, `{"":[[],{}],"\\":"\"","[":"]","{":"}",",":","}`, `{"n":[0,-0,10,100e2,0.5,-5000]}`,
		`{"c":[{"b":[{"a":1}]}],"a":[[[1],2],3],"b":{"d":{"e":{}},"c":4}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		clean, err := tidyObject(raw, 1<<20, 200)
		if err != nil {
			return
		}
		got, err := fingerprint("type", clean, nil)
		if want := decodedPrint(t, "type", clean); err != nil || got != want {
			t.Fatalf("%q: %s, %v, want %s", clean, got, err, want)
		}
	})
}

// largeInputs are of one megabyte, each of another kind.
func largeInputs() map[string]string {
	const size = 1 << 20
	fill := func(item string) string {
		return `{"a":[` + strings.TrimSuffix(strings.Repeat(item+",", (size-16)/(len(item)+1)), ",") + `]}`
	}
	var names strings.Builder
	for source := rand.New(rand.NewPCG(1, 2)); names.Len() < size-32; {
		fmt.Fprintf(&names, `"%x":0,`, source.Uint32())
	}
	deep := 190
	return map[string]string{
		"text": `{"a":"` + strings.Repeat("x", size-16) + `"}`, "numbers": fill("0"), "objects": fill("{}"), "arrays": fill(`{"a":[0]}`),
		"strings": fill(`""`), "escapes": fill(`"\u00e9"`), "names": "{" + strings.TrimSuffix(names.String(), ",") + "}",
		"deep": strings.Repeat(`{"a":`, deep) + fill("0")[:size-2000] + "0]}" + strings.Repeat("}", deep),
	}
}

// A megabyte is digested in little memory, whatever is in it.
func TestDigestOfLargeInputs(t *testing.T) {
	for name, input := range largeInputs() {
		clean, err := tidyObject([]byte(input), 1<<20, 200)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := fingerprint("type", clean, nil)
		runtime.ReadMemStats(&after)
		if want := decodedPrint(t, "type", clean); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, want)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 {
			t.Errorf("%s: %d bytes allocated", name, grown)
		}
	}
}

func BenchmarkFingerprint(b *testing.B) {
	for name, input := range largeInputs() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := fingerprint("type", []byte(input), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
