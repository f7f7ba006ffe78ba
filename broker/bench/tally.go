package bench

import (
	"maps"
	"slices"
	"time"
)

// Counts are what became of the messages of a run.
type Counts struct {
	Sent        int            `json:"sent"`
	Acked       int            `json:"acked"`        // stored, says the broker
	Delivered   int            `json:"delivered"`    // pushes read, the first of each
	ClientAcked int            `json:"client_acked"` // client_acks written for them
	Unanswered  int            `json:"unanswered"`   // sent, and neither acked nor refused in time
	Refused     map[string]int `json:"refused"`      // by error code

	Lost       int `json:"lost"`       // acked, and not delivered to one it was for
	Duplicated int `json:"duplicated"` // delivered again, with the same messageId or not
	Reordered  int `json:"reordered"`  // acks and pushes that came after a later one's
}

// Kept reports whether the broker kept what it promised: every message answered,
// those acked delivered at least once, and in order.
func (c Counts) Kept() bool { return c.Lost == 0 && c.Reordered == 0 && c.Unanswered == 0 }

func (c *Counts) add(o Counts) {
	c.Sent += o.Sent
	c.Acked += o.Acked
	c.Delivered += o.Delivered
	c.ClientAcked += o.ClientAcked
	c.Unanswered += o.Unanswered
	c.Lost += o.Lost
	c.Duplicated += o.Duplicated
	c.Reordered += o.Reordered
	for _, code := range slices.Sorted(maps.Keys(o.Refused)) {
		c.refuse(code, o.Refused[code])
	}
}

func (c *Counts) refuse(code string, n int) {
	if c.Refused == nil {
		c.Refused = map[string]int{}
	}
	c.Refused[code] += n
}

// outbound is what one sender sent, by number from 0. It is not safe for
// concurrent use.
type outbound struct {
	due      []time.Duration // when each was to be sent, since the start of the program
	answers  []answer
	answered int // how many have an answer
	newest   int // the highest number answered, plus one
	counts   Counts
	acks     samples
}

type answer uint8

const (
	none answer = iota
	acked
	refused
)

// send notes the next message and returns its number.
func (o *outbound) send(due time.Duration) int {
	o.due = append(o.due, due)
	o.answers = append(o.answers, none)
	o.counts.Sent++
	return len(o.due) - 1
}

// ack notes the broker's answer to message n: accepted if code is "", else
// refused. It reports whether this is its first answer.
func (o *outbound) ack(n int, code string, now time.Duration) bool {
	if n < 0 || n >= len(o.answers) || o.answers[n] != none {
		return false
	}
	o.answered++
	if n+1 < o.newest {
		o.counts.Reordered++
	}
	o.newest = max(o.newest, n+1)
	if code != "" {
		o.answers[n] = refused
		o.counts.refuse(code, 1)
		return true
	}
	o.answers[n] = acked
	o.counts.Acked++
	o.acks.add(now - o.due[n])
	return true
}

// open is how many messages wait for their answer.
func (o *outbound) open() int { return len(o.due) - o.answered }

// inbound is what one recipient got of one sender. It is not safe for concurrent
// use.
type inbound struct {
	got    []bool // by number
	newest int    // the highest number got, plus one
	counts Counts
	trips  samples // send → push read
}

// push notes that message n of from arrived. It reports whether that is the
// first time: then it is new, else a duplicate.
func (i *inbound) push(n int, from *outbound, now time.Duration) bool {
	if n < 0 || n >= len(from.due) {
		return false // not of this run
	}
	for len(i.got) <= n {
		i.got = append(i.got, false)
	}
	if i.got[n] {
		i.counts.Duplicated++
		return false
	}
	i.got[n] = true
	i.counts.Delivered++
	if n+1 < i.newest {
		i.counts.Reordered++
	}
	i.newest = max(i.newest, n+1)
	i.trips.add(now - from.due[n])
	return true
}

// missing is how many messages that from was acked did not arrive.
func (i *inbound) missing(from *outbound) (n int) {
	for seq, a := range from.answers {
		if a == acked && (seq >= len(i.got) || !i.got[seq]) {
			n++
		}
	}
	return n
}

// total is the outcome for one sender and all its recipients.
func total(from *outbound, to ...*inbound) Counts {
	all := from.counts
	all.Refused = maps.Clone(all.Refused)
	all.Unanswered = from.open()
	for _, i := range to {
		all.add(i.counts)
		all.Lost += i.missing(from)
	}
	return all
}
