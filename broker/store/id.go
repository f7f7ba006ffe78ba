package store

import (
	"crypto/rand"
	"time"
)

const (
	base62   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	timeLen  = 8  // digits of base62: milliseconds until the year 8888
	entropy  = 22 // digits of base62: 131 bits
	codeLen  = 8  // digits of a short code: 47 bits
	idLength = timeLen + entropy
)

// NewID returns an id of 30 base62 characters that sorts by creation time and
// holds 131 random bits, so that it cannot be guessed (protocol, preamble, and
// section 8 for member ids).
func NewID() string { return newID(time.Now()) }

func newID(now time.Time) string {
	var id [idLength]byte
	for ms, i := now.UnixMilli(), timeLen-1; i >= 0; i-- {
		id[i] = base62[ms%62]
		ms /= 62
	}
	randomBase62(id[timeLen:])
	return string(id[:])
}

// NewCode returns a short code of 8 random base62 characters.
func NewCode() string {
	var code [codeLen]byte
	randomBase62(code[:])
	return string(code[:])
}

// randomBase62 fills dst with uniform digits. A byte modulo 62 would favour the
// first eight digits, so bytes of 248 and more are drawn again.
func randomBase62(dst []byte) {
	var pool [2 * entropy]byte
	next := len(pool)
	for i := range dst {
		for {
			if next == len(pool) {
				rand.Read(pool[:]) // never fails (crypto/rand)
				next = 0
			}
			b := pool[next]
			next++
			if b < 248 {
				dst[i] = base62[b%62]
				break
			}
		}
	}
}
