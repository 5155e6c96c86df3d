package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The recordings in testdata are of this repository's own benchmarks: the base
// twice, and the base with one fault each, put into the write to a socket. The
// noisy pair is the base twice, while the machine did other things.
func TestRecordings(t *testing.T) {
	for _, c := range []struct {
		base, head string
		code       int
		says       []string
	}{
		{"base", "same", exitOK, []string{"PASS: none of "}},
		{"base", "alloc", exitWorse, []string{"WORSE: SSE/subscribers=2000/events=1-2 allocs/round: 20"}},
		{"base", "writes", exitWorse, []string{"WORSE: SSE/subscribers=2000/events=1-2 writes/flush: 2, was 1", "syscalls/flush: 2.0"}},
		{"base", "slow", exitWorse, []string{"WORSE: SSE/subscribers=2000/events=1-2 x-bare: +"}},
		{"noisy-base", "noisy-head", exitInconclusive, []string{"too noisy: Ring/", "INCONCLUSIVE: "}},
	} {
		t.Run(c.head, func(t *testing.T) {
			var out, errs strings.Builder
			code := run(t.Context(), []string{"judge", testdata(c.base), testdata(c.head)}, &out, &errs)
			if code != c.code {
				t.Errorf("exit status %d, want %d", code, c.code)
			}
			for _, want := range append(c.says, "sec/op", "p=") { // and benchstat's table
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q", want)
				}
			}
			if t.Failed() {
				t.Logf("%s%s", out.String(), errs.String())
			}
		})
	}
}

func testdata(name string) string { return filepath.Join("testdata", name+".txt") }

// bench is the output of runs of one benchmark, with values of one unit.
func bench(name, unit string, values ...float64) string {
	var s strings.Builder
	for _, v := range values {
		fmt.Fprintf(&s, "Benchmark%s-2 \t 100\t %g %s\n", name, v, unit)
	}
	return s.String()
}

func verdictOf(t *testing.T, base, head string) verdict {
	t.Helper()
	s, _, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var b, h recording
	b.text.WriteString(base)
	h.text.WriteString(head)
	v, err := judge(s.rules, b, h)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestJudge(t *testing.T) {
	steady := []float64{100, 101, 99, 100, 102, 100}
	times := func(values []float64, f float64) []float64 {
		out := make([]float64, len(values))
		for i, v := range values {
			out[i] = v * f
		}
		return out
	}
	scattered := []float64{100, 140, 90, 135, 105, 128}
	for _, c := range []struct {
		what       string
		base, head string
		code       int
	}{
		{"equal", bench("Emit", "ns/op", steady...), bench("Emit", "ns/op", steady...), exitOK},
		{"a little slower, surely", bench("Emit", "ns/op", steady...), bench("Emit", "ns/op", times(steady, 1.08)...), exitOK},
		{"slower", bench("Emit", "ns/op", steady...), bench("Emit", "ns/op", times(steady, 1.12)...), exitWorse},
		{"faster", bench("Emit", "ns/op", steady...), bench("Emit", "ns/op", times(steady, 0.5)...), exitOK},
		{"one run disturbed", bench("Emit", "ns/op", steady...), bench("Emit", "ns/op", 100, 101, 300, 100, 99, 102), exitOK},
		{"scattered", bench("Emit", "ns/op", scattered...), bench("Emit", "ns/op", scattered...), exitInconclusive},
		{"scattered, but twice as slow", bench("Emit", "ns/op", scattered...), bench("Emit", "ns/op", times(scattered, 2)...), exitWorse},
		{"halves of the base differ", bench("Emit", "ns/op", 100, 115, 100, 115, 100, 115), bench("Emit", "ns/op", steady...), exitInconclusive},
		{"slower by the yardstick", bench("SSE", "x-bare", times(steady, 0.01)...), bench("SSE", "x-bare", times(steady, 0.012)...), exitWorse},
		{"another machine for either side", bench("SSE", "ns/op", steady...) + bench("SSE", "bare-cpu-ns/delivery", steady...),
			bench("SSE", "ns/op", times(steady, 1.15)...) + bench("SSE", "bare-cpu-ns/delivery", times(steady, 1.15)...), exitInconclusive},
		{"a steady ratio says enough", bench("SSE", "ns/op", scattered...) + bench("SSE", "x-bare", times(steady, 0.01)...),
			bench("SSE", "ns/op", scattered...) + bench("SSE", "x-bare", times(steady, 0.01)...), exitOK},
		{"a steady processor says enough", bench("Emit", "ns/op", scattered...) + bench("Emit", "cpu-ns/event", steady...),
			bench("Emit", "ns/op", scattered...) + bench("Emit", "cpu-ns/event", times(steady, 1.02)...), exitOK},
		{"a steady clock says enough", bench("Ring", "ns/op", steady...) + bench("Ring", "cpu-ns/delivery", scattered...),
			bench("Ring", "ns/op", steady...) + bench("Ring", "cpu-ns/delivery", scattered...), exitOK},
		{"slower by the processor alone", bench("Emit", "ns/op", scattered...) + bench("Emit", "cpu-ns/event", steady...),
			bench("Emit", "ns/op", scattered...) + bench("Emit", "cpu-ns/event", times(steady, 1.2)...), exitWorse},
		{"slower by the clock alone", bench("Emit", "ns/op", steady...) + bench("Emit", "cpu-ns/event", steady...),
			bench("Emit", "ns/op", times(steady, 1.2)...) + bench("Emit", "cpu-ns/event", steady...), exitWorse},
		{"both noisy", bench("Emit", "ns/op", scattered...) + bench("Emit", "cpu-ns/event", scattered...),
			bench("Emit", "ns/op", scattered...) + bench("Emit", "cpu-ns/event", scattered...), exitInconclusive},
		{"one more allocation", bench("Ring/logs=1", "allocs/round", 6, 6, 6, 6.02, 6, 6), bench("Ring/logs=1", "allocs/round", 7, 7, 7, 7, 7, 7.02), exitWorse},
		{"one more allocation, rounded", bench("Flush", "allocs/op", 6, 6, 6, 6, 6, 6), bench("Flush", "allocs/op", 7, 7, 7, 7, 7, 7), exitWorse},
		{"a timer's allocation now and then", bench("Ring", "allocs/round", 6, 6, 6, 6.02, 6, 6), bench("Ring", "allocs/round", 6.1, 6.1, 6.1, 6.1, 6.2, 6.1), exitOK},
		{"none before", bench("Encode/event", "allocs/op", 0, 0, 0, 0, 0, 0), bench("Encode/event", "allocs/op", 1, 1, 1, 1, 1, 1), exitWorse},
		{"one more off the hot path", bench("Poll", "allocs/op", 6, 6, 6, 6, 6, 6), bench("Poll", "allocs/op", 7, 7, 7, 7, 7, 7), exitOK},
		{"a system call for every tenth delivery", bench("SSE", "syscalls/flush", 1, 1, 1.01, 1, 1, 1), bench("SSE", "syscalls/flush", 1.1, 1.1, 1.1, 1.1, 1.1, 1.11), exitWorse},
		{"not counted any more", bench("SSE", "writes/flush", 1, 1, 1, 1, 1, 1), bench("SSE", "ns/op", steady...), exitWorse},
		{"new and gone", bench("Old", "ns/op", steady...), bench("New", "ns/op", steady...), exitOK},
		{"no base", "", bench("New", "ns/op", steady...), exitOK},
		{"text between", "goos: linux\nPASS\n" + bench("Emit", "ns/op", steady...), "--- BENCH\n    a note\n" + bench("Emit", "ns/op", steady...) + "ok x 1s\n", exitOK},
	} {
		if v := verdictOf(t, c.base, c.head); v.code() != c.code {
			t.Errorf("%s: %d, want %d: %+v", c.what, v.code(), c.code, v.findings)
		}
	}
}

// What runs again: what was too noisy, and what was slower, so that a chance is
// not taken for a change. Counts are what they are.
func TestUnsure(t *testing.T) {
	v := verdictOf(t,
		bench("Emit/memory", "ns/op", 100, 140, 90, 135, 105, 128)+bench("Poll", "ns/op", 100, 101, 100, 99)+
			bench("Tail/a=1/b", "ns/op", 100, 101, 100, 99)+bench("Ring", "allocs/round", 5, 5, 5, 5),
		bench("Emit/memory", "ns/op", 100, 140, 90, 135, 105, 128)+bench("Poll", "ns/op", 100, 101, 100, 99)+
			bench("Tail/a=1/b", "ns/op", 200, 201, 200, 199)+bench("Ring", "allocs/round", 7, 7, 7, 7))
	for again, want := range map[bool]string{
		true:  "^BenchmarkEmit$/^memory$ ^BenchmarkTail$/^a=1$/^b$",
		false: "^BenchmarkEmit$/^memory$", // it was found again
	} {
		if got := strings.Join(patterns(v.unsure(again)), " "); got != want {
			t.Errorf("%s run again, want %s", got, want)
		}
	}
}

func TestNewAndGoneAreListed(t *testing.T) {
	v := verdictOf(t, bench("Old", "ns/op", 1, 1, 1, 1), bench("New", "ns/op", 1, 1, 1, 1))
	var out strings.Builder
	v.print(&out)
	for _, want := range []string{"new: New-2\n", "gone: Old-2\n", "nothing to compare"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q: %s", want, out.String())
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"-count", "3"}, {"-bench", "("}, {"-hot", "("}, {"-benchtime", "long"}, {"judge", "one"}, {"what"}, {"-no"},
	} {
		if code := run(t.Context(), args, io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%q: exit status %d, want %d", args, code, exitUsage)
		}
	}
	if code := run(t.Context(), []string{"judge", "none", "none"}, io.Discard, io.Discard); code != exitWorse {
		t.Errorf("exit status %d for files that are not there", code)
	}
	if code := run(t.Context(), []string{"-h"}, io.Discard, io.Discard); code != exitOK {
		t.Errorf("exit status %d for help", code)
	}
}

// FuzzRecording: whatever a benchmark prints, judging ends.
func FuzzRecording(f *testing.F) {
	if text, err := os.ReadFile(testdata("base")); err == nil {
		f.Add(string(text), string(text))
	}
	f.Add(bench("A", "ns/op", 0, 0, 0, 0), bench("A", "ns/op", -1, 0, 1e300, 5))
	f.Add("BenchmarkX 1 NaN ns/op\n", "BenchmarkX 1 +Inf ns/op\n")
	f.Fuzz(func(t *testing.T, base, head string) {
		var b, h recording
		b.text.WriteString(base)
		h.text.WriteString(head)
		s, _, err := parse(nil, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := judge(s.rules, b, h); err == nil {
			v.print(io.Discard)
		}
	})
}
