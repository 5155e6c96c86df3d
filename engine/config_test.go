package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Whoever has set a duration too short is told one, and no count of nanoseconds.
func TestConfigErrorsHaveUnits(t *testing.T) {
	_, err := engine.New(engine.Config{Store: newLeased(t), Lease: engine.LeaseConfig{TTL: time.Millisecond}})
	if err == nil || !strings.Contains(err.Error(), "Lease.TTL must be at least 100ms") {
		t.Errorf("it says %v", err)
	}
	_, err = engine.New(engine.Config{Store: newLeased(t), Revocations: engine.RevocationConfig{TTL: time.Millisecond}})
	if err == nil || !strings.Contains(err.Error(), "Revocations.TTL must be at least 1s") {
		t.Errorf("it says %v", err)
	}
}
