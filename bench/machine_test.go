package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// machine says where and when a table was made, and how busy it was there.
func machine(redis *redistest.Instance) string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load := "unknown"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(b), " ")
	}
	version := "unknown"
	if info, err := redis.Info("server"); err == nil {
		version = info["redis_version"]
	}
	return fmt.Sprintf("%d cores of %s, %s, Redis %s, load average before: %s, %s", runtime.NumCPU(), model,
		runtime.Version(), version, load, time.Now().UTC().Format("2006-01-02 15:04 MST"))
}

// redisCPU is what the server has used of the CPUs, user and system.
func redisCPU(tb testing.TB, redis *redistest.Instance) time.Duration {
	tb.Helper()
	info, err := redis.Info("cpu")
	if err != nil {
		tb.Fatal(err)
	}
	var sum float64
	for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
		s, err := strconv.ParseFloat(info[field], 64)
		if err != nil {
			tb.Fatalf("%s: %v", field, err)
		}
		sum += s
	}
	return time.Duration(sum * float64(time.Second))
}

// table prints rows in columns.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(tb testing.TB, title string) {
	var s strings.Builder
	fmt.Fprintf(&s, "\n%s\n\n", title)
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
	_, _ = fmt.Fprintln(tb.Output(), s.String())
}

func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 2, 64)
}

func micros(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Microsecond), 'f', 1, 64)
}

// share is how much of one core cpu is.
func share(cpu, of time.Duration) string {
	return strconv.FormatFloat(100*float64(cpu)/float64(of), 'f', 0, 64) + " %"
}

// count writes 10000 as 10,000.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}
