package host

import (
	"fmt"
	"os"
	"strings"
)

// PeakMemory is the most physical memory, in bytes, that the process has had at
// once so far (proc(5), VmHWM).
func (h *Host) PeakMemory() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	if !ok {
		return 0, fmt.Errorf("host: no VmHWM in\n%s", status)
	}
	var kib int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("host: VmHWM: %w", err)
	}
	return kib << 10, nil
}
