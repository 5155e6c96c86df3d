package fiberbridge

import (
	"fmt"
	"log/slog"
	"mime"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// allows reports whether files of a type are taken. contentType may have
// parameters.
func (u UploadConfig) allows(contentType string) bool {
	if len(u.ContentTypes) == 0 {
		return true
	}
	media, _, _ := strings.Cut(contentType, ";")
	top, _, _ := strings.Cut(media, "/")
	return slices.ContainsFunc(u.ContentTypes, func(entry string) bool {
		entry = strings.ToLower(entry)
		return entry == media || entry == top+"/*" || entry == "*/*"
	})
}

// validateTypePattern accepts "*/*", "type/*" and "type/subtype".
func validateTypePattern(entry string) error {
	probe := strings.ToLower(entry)
	if probe == "*/*" {
		return nil
	}
	if top, ok := strings.CutSuffix(probe, "/*"); ok {
		probe = top + "/x"
	}
	media, params, err := mime.ParseMediaType(probe)
	if err != nil || len(params) > 0 || media != probe || strings.Contains(probe, "*") || !strings.Contains(probe, "/") {
		return fmt.Errorf(`%q is not of the form "type/subtype" or "type/*"`, entry)
	}
	return nil
}

// tellUploadLimits logs which of the app's settings prevent the bridge's own limits for
// bodies and uploads from taking effect, with the figures.
func (b *Bridge) tellUploadLimits(router fiber.Router) {
	app, ok := configOf(router)
	if !ok {
		return
	}
	u := b.cfg.Uploads
	streamed, parsed, limit := app.boolean("StreamRequestBody"), !app.boolean("DisablePreParseMultipartForm"), app.integer("BodyLimit")
	log := b.cfg.Logger.With(slog.Int64("bodyLimit", limit), slog.Int64("maxFileBytes", u.MaxFileBytes), slog.Int64("maxTotalBytes", u.MaxTotalBytes),
		slog.Bool("streamRequestBody", streamed), slog.Bool("disablePreParseMultipartForm", !parsed))
	const stream = "; set StreamRequestBody and DisablePreParseMultipartForm in fiber.Config to stream it"
	switch {
	case !streamed && !b.noFiles && limit < u.MaxTotalBytes:
		log.Warn("each body is held in memory before authentication and before any limit of the bridge's, and uploads over Fiber's BodyLimit are refused" + stream)
	case !streamed:
		log.Warn("each body, up to Fiber's BodyLimit, is held in memory before authentication and before any limit of the bridge's" + stream)
	case parsed && !b.noFiles:
		log.Warn("Fiber parses uploads before any limit applies, into temporary files of any size; set fiber.Config.DisablePreParseMultipartForm")
	}
}
