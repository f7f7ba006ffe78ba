package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"meshbox/broker/bench"
	"meshbox/broker/wire"
)

// printBench prints results for a person.
func printBench(w io.Writer, results []*bench.Result) error {
	for i, r := range results {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := printResult(w, r); err != nil {
			return err
		}
	}
	return nil
}

func printResult(w io.Writer, r *bench.Result) error {
	on := ""
	if r.Stored > 0 {
		on = fmt.Sprintf(" with %d messages stored before", r.Stored)
	}
	if r.ComparedTo != nil {
		on += fmt.Sprintf(", %.2f times as many as without (means of two runs)", *r.ComparedTo)
	}
	fmt.Fprintf(w, "%s: %s %s/s, for %.1f s%s\n\n", styleOf(w).bold(r.Scenario), perSecond(r.PerSecond), r.Unit, r.Seconds, on)
	if err := printLatencies(w, r); err != nil {
		return err
	}
	return table(w, nil, slices.Concat(countRows(r.Counts), stormRows(r.Handshakes), idleRows(r.Idle), costRows(r)))
}

func perSecond(n float64) string {
	if n < 100 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

func printLatencies(w io.Writer, r *bench.Result) error {
	rows := [][]string{}
	for _, l := range []struct {
		name string
		*bench.Latency
	}{
		{"send to ack", r.Ack}, {"send to push read", r.EndToEnd}, {"post to all have it", r.ToAll},
		{"connect to hello_ack", r.Handshake}, {"start to ready", r.Ready},
	} {
		if l.Latency != nil {
			rows = append(rows, []string{"  " + l.name, ms(l.P50), ms(l.P90), ms(l.P99), ms(l.Max), fmt.Sprint(l.Count)})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	if err := table(w, []string{"  MILLISECONDS", "P50", "P90", "P99", "MAX", "OF"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func ms(v float64) string { return fmt.Sprintf("%.2f", v) }

func countRows(c *bench.Counts) (rows [][]string) {
	if c == nil {
		return nil
	}
	rows = [][]string{
		{"  messages", fmt.Sprintf("%d sent, %d acked, %d delivered, %d client-acked", c.Sent, c.Acked, c.Delivered, c.ClientAcked)},
		{"  promises", fmt.Sprintf("%d lost, %d duplicated, %d reordered, %d not answered", c.Lost, c.Duplicated, c.Reordered, c.Unanswered)},
	}
	for _, code := range slices.Sorted(maps.Keys(c.Refused)) {
		why := fmt.Sprintf("%d, %s", c.Refused[code], code)
		if code == wire.RateLimit {
			why += ": this broker limits what a member may send; start it with --send-rate 0 for a benchmark, or take less --rate"
		}
		rows = append(rows, []string{"  refused", why})
	}
	return rows
}

func stormRows(s *bench.Storm) (rows [][]string) {
	if s == nil {
		return nil
	}
	rows = [][]string{{"  handshakes", fmt.Sprintf("%d done, %d of them without an answer to the goodbye", s.Done, s.Unclean)}}
	for _, why := range slices.Sorted(maps.Keys(s.Failed)) {
		rows = append(rows, []string{"  failed", fmt.Sprintf("%d: %s", s.Failed[why], why)})
	}
	return rows
}

func idleRows(i *bench.Idle) [][]string {
	if i == nil {
		return nil
	}
	return [][]string{
		{"  connections", fmt.Sprintf("%d of %d members, %d broken", i.Connections, i.Members, i.Broken)},
		{"  memory before", mebibytes(i.MemoryBefore)},
		{"  memory with them", fmt.Sprintf("%s at most, then %s", mebibytes(i.MemoryPeak), mebibytes(i.MemorySettled))},
		{"  memory of each", fmt.Sprintf("%s at most, then %s", kibibytes(i.EachPeak), kibibytes(i.Each))},
	}
}

func costRows(r *bench.Result) [][]string {
	rows := [][]string{}
	if r.Scenario != benchStart && r.Idle == nil {
		rows = append(rows, []string{"  server memory", mebibytes(r.ServerMemory)})
	}
	if r.Scenario != benchStart {
		rows = append(rows, []string{"  processor time", fmt.Sprintf("server %s, bench %s", cpu(r.ServerCPU), cpu(r.OwnCPU))})
	}
	return rows
}

const unknown = "unknown"

func mebibytes(bytes *int64) string {
	if bytes == nil {
		return unknown
	}
	return fmt.Sprintf("%.1f MiB", float64(*bytes)/(1<<20))
}

func kibibytes(kib *float64) string {
	if kib == nil {
		return unknown
	}
	return fmt.Sprintf("%.1f KiB", *kib)
}

func cpu(seconds *float64) string {
	if seconds == nil {
		return unknown
	}
	return fmt.Sprintf("%.2f s", *seconds)
}
