package fiberbridge

import (
	"strconv"
	"strings"
)

// eventStream is the media type of Server-Sent Events.
const eventStream = "text/event-stream"

// acceptsEventStream reads an Accept header (RFC 9110, section 12.5.1): ok says
// that it does not rule out text/event-stream, named that it lists it by name.
// The most specific range that matches decides; an empty header accepts all.
func acceptsEventStream(accept string) (ok, named bool) {
	if strings.TrimSpace(accept) == "" {
		return true, false
	}
	best := 0
	for r := range strings.SplitSeq(accept, ",") {
		params := strings.Split(r, ";")
		specificity := 0
		switch strings.ToLower(strings.TrimSpace(params[0])) {
		case eventStream:
			specificity = 3
		case "text/*":
			specificity = 2
		case "*/*":
			specificity = 1
		}
		if specificity <= best {
			continue
		}
		best, ok = specificity, weight(params[1:]) > 0
	}
	return ok, ok && best == 3
}

// weight returns the q parameter, 1 if there is none or it is unreadable.
func weight(params []string) float64 {
	for _, p := range params {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "q") {
			if q, err := strconv.ParseFloat(value, 64); err == nil {
				return q
			}
		}
	}
	return 1
}
