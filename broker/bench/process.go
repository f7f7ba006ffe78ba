package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used.
type Usage struct {
	Memory int64         // resident, in bytes
	CPU    time.Duration // user and system, since it started
}

// Meter reads the usage of a process.
type Meter func(context.Context) (Usage, error)

// Process measures a process of this machine by its id, where the system has
// /proc (Linux).
func Process(pid int) Meter {
	folder := fmt.Sprintf("/proc/%d", pid)
	return func(context.Context) (u Usage, err error) {
		if u.Memory, err = residentMemory(folder + "/status"); err != nil {
			return u, err
		}
		u.CPU, err = processorTime(folder + "/stat")
		return u, err
	}
}

func residentMemory(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("there is no VmRSS in " + path)
}

// clockTick is the unit of times in /proc/<pid>/stat: 1/100 s on every Linux
// that Go runs on.
const clockTick = 10 * time.Millisecond

func processorTime(path string) (time.Duration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The second field is the name in brackets, which may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("there are too few fields in " + path)
	}
	user, err := strconv.Atoi(string(fields[11])) // field 14 of proc(5)
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * clockTick, err
}

// Metrics measures a broker by its /metrics; base is http(s)://host[:port]. Not
// every system tells them.
func Metrics(base string) Meter {
	return func(ctx context.Context) (u Usage, err error) {
		values, err := scrape(ctx, base+"/metrics")
		if err != nil {
			return u, err
		}
		memory, ok := values["process_resident_memory_bytes"]
		if !ok {
			return u, errors.New("the broker's metrics do not tell its memory")
		}
		u.Memory = int64(memory)
		u.CPU = time.Duration(values["process_cpu_seconds_total"] * float64(time.Second))
		return u, nil
	}
}

// scrape reads the metrics without labels.
func scrape(ctx context.Context, url string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, response.Status)
	}
	values := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = number
		}
	}
	return values, lines.Err()
}

// Or measures by m, and by other where that does not work.
func (m Meter) Or(other Meter) Meter {
	return func(ctx context.Context) (Usage, error) {
		if u, err := m(ctx); err == nil {
			return u, nil
		}
		return other(ctx)
	}
}
