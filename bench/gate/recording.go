package main

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/perf/benchfmt"
)

// recording is the output of one side's benchmarks, in the order of the runs.
type recording struct{ text bytes.Buffer }

func load(path string) (r recording, err error) {
	text, err := os.ReadFile(path)
	r.text.Write(text)
	return r, err
}

func (r *recording) save(path string) error {
	return os.WriteFile(path, r.text.Bytes(), 0o600)
}

// series are the values of each benchmark in each unit, in the order of the
// runs; names are the benchmarks in the order of their first.
type series struct {
	names  []string
	values map[string]map[string][]float64
}

func (r *recording) series() (series, error) {
	s := series{values: map[string]map[string][]float64{}}
	in := benchfmt.NewReader(bytes.NewReader(r.text.Bytes()), "output")
	for in.Scan() {
		res, ok := in.Result().(*benchfmt.Result)
		if !ok {
			continue // a note, or a line that is none
		}
		name := string(res.Name)
		units := s.values[name]
		if units == nil {
			units = map[string][]float64{}
			s.values[name] = units
			s.names = append(s.names, name)
		}
		for _, v := range res.Values {
			units[v.Unit] = append(units[v.Unit], v.Value)
		}
	}
	if err := in.Err(); err != nil {
		return s, fmt.Errorf("read the benchmarks' output: %w", err)
	}
	return s, nil
}
