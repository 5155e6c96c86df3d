package main

import (
	"bytes"
	"os"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCommittedDocumentIsCurrent(t *testing.T) {
	want, err := bundle(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(protocol.OpenAPI(), want) {
		t.Error("openapi.json is not what its source and the schemas give: run go generate ./protocol")
	}
}

func TestBundleWantsOnePlace(t *testing.T) {
	for _, src := range []string{`{}`, `{"schemas": {}, "x": {"schemas": {}}}`} {
		if _, err := bundle(fstest.MapFS{"openapi.source.json": {Data: []byte(src)}}); err == nil {
			t.Errorf("%s was taken", src)
		}
	}
}
