package identity

import (
	"fmt"
	"math"
	"time"
)

// MaxSkew is how far a hello's timestamp may lie from the broker's clock, either way, inclusive:
// ±60 000 ms is accepted, ±60 001 ms refused (§2).
const MaxSkew = 60 * time.Second

// checkSkew refuses, with timestamp_skew, a timestamp (Unix ms) further than MaxSkew from now.
func checkSkew(timestamp float64, now time.Time) error {
	ahead := timestamp - float64(now.UnixMilli())
	if math.Abs(ahead) <= float64(MaxSkew.Milliseconds()) { // false for NaN: `> MaxSkew → refuse` would let it pass
		return nil
	}
	return refuse(codeTimestampSkew, skewMessage(ahead))
}

// skewMessage tells a person how to get rid of a skew of ahead milliseconds.
func skewMessage(ahead float64) string {
	const year = 365 * 24 * 60 * 60 * 1000
	if !(math.Abs(ahead) < 1000*year) {
		return "The hello's timestamp is not a time; send the client's clock as a number of Unix milliseconds."
	}
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	message := fmt.Sprintf("The client's clock is %s s %s the broker's, and at most %s s are allowed; set it, for example with NTP, and connect again.",
		seconds(math.Abs(ahead)), direction, seconds(float64(MaxSkew.Milliseconds())))
	if math.Abs(ahead) > year {
		message += " If it shows the right time, check that the client sends milliseconds."
	}
	return message
}

// seconds formats ms as seconds with as many decimals as it takes, three at most: 60001 ms must not
// read as the 60 s that are allowed.
func seconds(ms float64) string { return number(math.Ceil(ms) / 1000) }
