package fiberbridge

import (
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// headerSecFetchSite is where a browser says how the page that made a request
// stands to its target; no page can set it (Fetch Metadata, W3C).
const headerSecFetchSite = "Sec-Fetch-Site"

var errOrigin = engine.NewError(engine.CodeInvalidRequest, "a page of this origin may not do this")

// checkOrigin refuses a request that changes something if a page of another origin
// made it with credentials that the browser added. Such a page can submit a form
// without a CORS preflight, and if it is on a sibling domain, SameSite cookies go
// with it. It returns nil for clients that are no browsers.
func (b *Bridge) checkOrigin(c *fiber.Ctx) error {
	if c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead || hasExplicitCredentials(c) {
		return nil
	}
	origins := headerValues(c, fiber.HeaderOrigin)
	switch site := headerValues(c, headerSecFetchSite); {
	case len(site) == 1 && (site[0] == "same-origin" || site[0] == "none"):
		return nil // also behind a proxy that changes Host
	case len(site) > 0 && len(origins) == 0 && !slices.Contains(b.cfg.Origins, "*"):
		// A page of another origin made the request, and the browser does not say which.
	case originsAllowed(origins, c.Hostname(), b.cfg.Origins):
		return nil
	}
	b.auditOrigin(c, origins)
	return errOrigin
}

func (b *Bridge) auditOrigin(c *fiber.Ctx, origins []string) {
	b.eng.Audit(c.UserContext(), engine.AuditEvent{
		Action: engine.AuditOriginDenied, Reason: strings.Clone(strings.Join(origins, ", ")),
	})
}

// hasExplicitCredentials reports whether the request has an Authorization that a
// page's script has to set itself, so that a browser sends a preflight first.
// Schemes that browsers add by themselves do not count.
func hasExplicitCredentials(c *fiber.Ctx) bool {
	scheme, token, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	switch strings.ToLower(scheme) {
	case "", "basic", "digest", "negotiate", "ntlm":
		return false
	}
	return token != ""
}
