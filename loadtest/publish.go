//go:build linux

package main

import (
	"encoding/json"
	"io"
	"os"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// publish writes the report wherever it was asked for.
func publish(r *report.Report, o *options, stdout io.Writer) error {
	if o.json == "-" {
		if err := writeJSON(stdout, r); err != nil {
			return err
		}
	} else if err := r.Text(stdout); err != nil {
		return err
	}
	if o.json != "" && o.json != "-" {
		if err := toFile(o.json, func(w io.Writer) error { return writeJSON(w, r) }); err != nil {
			return err
		}
	}
	if o.html != "" {
		return toFile(o.html, r.HTML)
	}
	return nil
}

func writeJSON(w io.Writer, r *report.Report) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(r)
}

func toFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
