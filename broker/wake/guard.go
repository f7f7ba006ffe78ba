package wake

import (
	"time"
)

// Limits bound how often an agent is woken.
type Limits struct {
	Pause  time.Duration // between two wakings
	Pair   int           // wakings by one agent
	Topic  int           // wakings by agents in one topic
	Within time.Duration // in which those are counted
}

// DefaultLimits let two agents have a short talk, and end one that goes in circles
// before it has cost much.
var DefaultLimits = Limits{Pause: 5 * time.Second, Pair: 6, Topic: 20, Within: 10 * time.Minute}

// peopleFactor is how many times more often than an agent a person may wake.
const peopleFactor = 10

// Guard decides whether a message may wake. It is not safe for concurrent use.
type Guard struct {
	limits Limits
	pairs  map[string][]time.Time // when agents woke, by their key
	topics map[string][]time.Time // when agents woke, by topic
	people map[string][]time.Time // when people woke, by their key
	told   map[string]time.Time   // when a trip was told, by what tripped
}

// NewGuard makes a guard that has seen nothing.
func NewGuard(l Limits) *Guard {
	return &Guard{limits: l, pairs: map[string][]time.Time{}, topics: map[string][]time.Time{}, people: map[string][]time.Time{}, told: map[string]time.Time{}}
}

// Cause is what would wake an agent.
type Cause struct {
	Sender string // key of the member
	Agent  bool   // the sender is no person
	Topic  string // "" for a direct message
}

// Trip is what a guard found to go in circles.
type Trip struct {
	ByPair bool // one agent wakes this one; else many do in a topic
	Times  int
	Within time.Duration
	Tell   bool // a person has not been told of it lately
}

// Allows reports whether a message may wake now; if not, why. What a person says
// ends the count: the talk is theirs again.
func (g *Guard) Allows(c Cause, now time.Time) (bool, *Trip) {
	if !c.Agent { // as it says of itself: so it is bounded, too
		clear(g.pairs)
		delete(g.topics, c.Topic)
		times := g.recent(g.people, c.Sender, now)
		if len(times) >= peopleFactor*g.limits.Pair {
			return false, g.trip("person "+c.Sender, len(times), true, now)
		}
		g.people[c.Sender] = append(times, now)
		return true, nil
	}
	pair, topic := g.recent(g.pairs, c.Sender, now), g.recent(g.topics, c.Topic, now)
	if len(pair) >= g.limits.Pair {
		return false, g.trip("pair "+c.Sender, len(pair), true, now)
	}
	if len(topic) >= g.limits.Topic { // all direct messages are one, too
		return false, g.trip("topic "+c.Topic, len(topic), false, now)
	}
	g.pairs[c.Sender] = append(pair, now)
	g.topics[c.Topic] = append(topic, now)
	return true, nil
}

// recent returns the times that still count, and forgets the others.
func (g *Guard) recent(all map[string][]time.Time, key string, now time.Time) []time.Time {
	times := all[key]
	for len(times) > 0 && now.Sub(times[0]) >= g.limits.Within {
		times = times[1:]
	}
	if len(times) == 0 {
		delete(all, key)
		return nil
	}
	all[key] = times
	return times
}

func (g *Guard) trip(what string, times int, byPair bool, now time.Time) *Trip {
	told, known := g.told[what]
	tell := !known || now.Sub(told) >= g.limits.Within
	if tell {
		g.told[what] = now
	}
	return &Trip{ByPair: byPair, Times: times, Within: g.limits.Within, Tell: tell}
}
