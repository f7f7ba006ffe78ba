package peer

import (
	"time"

	"meshbox/broker/wire"
)

// HelloFrame is the frame that says hello for these options, signed for now:
// for programs that run a socket of their own, such as a load generator. Two
// that one key signs for the same millisecond are the same bytes, see Dial.
func (o Options) HelloFrame(now time.Time) []byte { return wire.Encode(o.hello(now), "") }
