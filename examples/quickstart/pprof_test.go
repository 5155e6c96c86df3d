package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestPprofHasAListenerOfItsOwn(t *testing.T) {
	url, stop, err := servePprof("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url + "goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !strings.HasPrefix(string(body), "goroutine profile: total ") {
		t.Errorf("got %.100q, %v", body, err)
	}
	taken := strings.Split(url, "/")[2]
	if _, _, err := servePprof(taken); err == nil || !strings.Contains(err.Error(), "PPROF") {
		t.Errorf("a taken address: %v", err)
	}
	stop()
	if resp, err := client.Get(url); err == nil {
		_ = resp.Body.Close()
		t.Error("it still answers")
	}
}
