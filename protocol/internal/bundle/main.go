// Command bundle writes openapi.json from openapi.source.json and the schemas
// that it refers to, so that the served document stands alone while each schema
// is written down once. Run it with go generate in the protocol folder.
package main

import (
	"fmt"
	"os"
)

func main() {
	doc, err := bundle(os.DirFS("."))
	if err == nil {
		err = os.WriteFile("openapi.json", doc, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bundle:", err)
		os.Exit(1)
	}
}
