// Package bench is a load generator: it plays many members of a mesh at once,
// measures how fast a broker serves them, and checks that it keeps its promises
// while it does. Nothing acked may be lost, nothing may overtake (protocol
// section 5); what comes twice is counted.
//
// It shares the machine with the broker it measures, so its own cost is part of
// every figure. Frames are therefore written from templates and scanned instead
// of decoded, and a message in flight costs no goroutine and no channel: whoever
// reads the last frame of one sends the next.
//
// A Target is the mesh it joins, with throwaway keys. The members are called
// bench-1, bench-2… and stay there, because a mesh forgets nobody; all they say
// goes to each other, or to a private topic of their own.
package bench
