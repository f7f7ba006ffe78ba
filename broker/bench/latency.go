package bench

import (
	"math"
	"slices"
	"time"
)

// samples are latencies in microseconds, all of them: percentiles are exact, and
// a million costs 4 MB.
type samples []uint32

func (s *samples) add(d time.Duration) {
	*s = append(*s, uint32(min(max(d.Microseconds(), 0), math.MaxUint32)))
}

// Latency is how long something took, in milliseconds.
type Latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// NewLatency sums up how long something took each time.
func NewLatency(all ...time.Duration) *Latency {
	var s samples
	for _, d := range all {
		s.add(d)
	}
	return s.latency()
}

// latency sums up samples, which it sorts; nil if there are none.
func (s samples) latency() *Latency {
	if len(s) == 0 {
		return nil
	}
	slices.Sort(s)
	return &Latency{Count: len(s), P50: s.percentile(50), P90: s.percentile(90), P99: s.percentile(99), Max: s.percentile(100)}
}

// percentile is the smallest of sorted samples that at least p percent do not
// exceed (nearest rank), in milliseconds.
func (s samples) percentile(p float64) float64 {
	rank := int(math.Ceil(p / 100 * float64(len(s))))
	return float64(s[max(rank, 1)-1]) / 1000
}
