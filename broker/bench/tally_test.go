package bench

import (
	"testing"
	"time"
)

// stream is what a fake broker did with messages of one sender to one recipient.
type stream struct {
	sent    int
	acks    []int
	refuses []int
	pushes  []int
}

func (s stream) counts() Counts {
	var out outbound
	var in inbound
	for range s.sent {
		out.send(0)
	}
	for _, n := range s.acks {
		out.ack(n, "", time.Millisecond)
	}
	for _, n := range s.refuses {
		out.ack(n, "rate_limit", time.Millisecond)
	}
	for _, n := range s.pushes {
		in.push(n, &out, time.Millisecond)
	}
	return total(&out, &in)
}

func TestBrokenPromisesAreCounted(t *testing.T) {
	for name, tt := range map[string]struct {
		stream
		want Counts
		kept bool
	}{
		"all is well": {stream{sent: 4, acks: []int{0, 1, 2, 3}, pushes: []int{0, 1, 2, 3}},
			Counts{Sent: 4, Acked: 4, Delivered: 4}, true},
		"one is lost": {stream{sent: 4, acks: []int{0, 1, 2, 3}, pushes: []int{0, 1, 3}},
			Counts{Sent: 4, Acked: 4, Delivered: 3, Lost: 1}, false},
		"the last is lost": {stream{sent: 2, acks: []int{0, 1}, pushes: []int{0}},
			Counts{Sent: 2, Acked: 2, Delivered: 1, Lost: 1}, false},
		"one comes twice": {stream{sent: 3, acks: []int{0, 1, 2}, pushes: []int{0, 1, 1, 2}},
			Counts{Sent: 3, Acked: 3, Delivered: 3, Duplicated: 1}, true},
		"one comes again later, which is no disorder": {stream{sent: 3, acks: []int{0, 1, 2}, pushes: []int{0, 1, 2, 0}},
			Counts{Sent: 3, Acked: 3, Delivered: 3, Duplicated: 1}, true},
		"two are swapped": {stream{sent: 3, acks: []int{0, 1, 2}, pushes: []int{0, 2, 1}},
			Counts{Sent: 3, Acked: 3, Delivered: 3, Reordered: 1}, false},
		"two acks are swapped": {stream{sent: 2, acks: []int{1, 0}, pushes: []int{0, 1}},
			Counts{Sent: 2, Acked: 2, Delivered: 2, Reordered: 1}, false},
		"one has no answer, but arrives": {stream{sent: 2, acks: []int{0}, pushes: []int{0, 1}},
			Counts{Sent: 2, Acked: 1, Delivered: 2, Unanswered: 1}, false},
		"one is acked twice": {stream{sent: 2, acks: []int{0, 0, 1}, pushes: []int{0, 1}},
			Counts{Sent: 2, Acked: 2, Delivered: 2}, true},
		"a refused one need not arrive": {stream{sent: 3, acks: []int{0}, refuses: []int{1, 2}, pushes: []int{0}},
			Counts{Sent: 3, Acked: 1, Delivered: 1, Refused: map[string]int{"rate_limit": 2}}, true},
		"numbers nobody sent": {stream{sent: 1, acks: []int{0, 7}, pushes: []int{0, 7}},
			Counts{Sent: 1, Acked: 1, Delivered: 1}, true},
	} {
		got := tt.stream.counts()
		if got.Refused["rate_limit"] != tt.want.Refused["rate_limit"] || len(got.Refused) != len(tt.want.Refused) {
			t.Errorf("%s: refused %v, want %v", name, got.Refused, tt.want.Refused)
		}
		if got.Kept() != tt.kept {
			t.Errorf("%s: kept %v, want %v", name, got.Kept(), tt.kept)
		}
		got.Refused, tt.want.Refused = nil, nil
		if !same(got, tt.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, tt.want)
		}
	}
}

// same compares Counts without Refused.
func same(x, y Counts) bool {
	return x.Sent == y.Sent && x.Acked == y.Acked && x.Delivered == y.Delivered && x.ClientAcked == y.ClientAcked &&
		x.Unanswered == y.Unanswered && x.Lost == y.Lost && x.Duplicated == y.Duplicated && x.Reordered == y.Reordered
}

// A message is lost if one of those it was for did not get it.
func TestLossIsPerRecipient(t *testing.T) {
	var out outbound
	var reached, missed inbound
	for n := range 3 {
		out.send(0)
		out.ack(n, "", 0)
		reached.push(n, &out, 0)
	}
	missed.push(1, &out, 0)
	if got := total(&out, &reached, &missed); got.Lost != 2 || got.Delivered != 4 || got.Acked != 3 {
		t.Errorf("%+v, want 2 lost and 4 delivered of 3", got)
	}
}

func TestLatencyCountsFromWhenAMessageWasDue(t *testing.T) {
	var out outbound
	var in inbound
	n := out.send(100 * time.Millisecond)
	out.ack(n, "", 103*time.Millisecond)
	in.push(n, &out, 107*time.Millisecond)
	if ack, trip := out.acks.latency(), in.trips.latency(); ack.Max != 3 || trip.Max != 7 {
		t.Errorf("ack after %v ms, push after %v ms, want 3 and 7", ack.Max, trip.Max)
	}
}

func TestPercentilesAreThoseOfTheNearestRank(t *testing.T) {
	var s samples
	for i := 100; i >= 1; i-- { // 1 to 100 ms, in no order
		s.add(time.Duration(i) * time.Millisecond)
	}
	if got, want := *s.latency(), (Latency{Count: 100, P50: 50, P90: 90, P99: 99, Max: 100}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := *NewLatency(4*time.Millisecond, 1*time.Millisecond, 3*time.Millisecond), (Latency{Count: 3, P50: 3, P90: 4, P99: 4, Max: 4}); got != want {
		t.Errorf("of three: %+v, want %+v", got, want)
	}
	if got, want := *NewLatency(1500 * time.Microsecond), (Latency{Count: 1, P50: 1.5, P90: 1.5, P99: 1.5, Max: 1.5}); got != want {
		t.Errorf("of one: %+v, want %+v", got, want)
	}
	if NewLatency() != nil {
		t.Error("of none there are no percentiles")
	}
}
