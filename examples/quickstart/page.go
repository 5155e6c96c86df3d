package main

import (
	"embed"
	"fmt"
	"io/fs"
	"path"

	"github.com/gofiber/fiber/v2"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load and reach nothing but this host.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// The system's own table of types may say anything.
var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
}

// mountPage serves the page and its few files, each under its own name.
func mountPage(app *fiber.App) error {
	entries, err := fs.ReadDir(pageFiles, "page")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		body, err := pageFiles.ReadFile(path.Join("page", entry.Name()))
		if err != nil {
			return err
		}
		contentType, known := pageTypes[path.Ext(entry.Name())]
		if !known {
			return fmt.Errorf("page/%s is of no known type", entry.Name())
		}
		route := "/" + entry.Name()
		if entry.Name() == "index.html" {
			route = "/"
		}
		app.Get(route, func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderContentType, contentType)
			c.Set(fiber.HeaderContentSecurityPolicy, pagePolicy)
			c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
			c.Set(fiber.HeaderCacheControl, "no-cache")
			return c.Send(body)
		})
	}
	return nil
}
