package identity

import (
	"math"
	"strconv"
	"strings"
)

const maxIDChars = 64

// delimiter joins the fields of every canonical string. Nothing escapes it, so a field that could
// contain one would let signed bytes be read in two ways; verification refuses such fields.
const delimiter = "|"

func join(fields ...string) string { return strings.Join(fields, delimiter) }

// isID reports whether s can be a mesh or member id: 1 to 64 of [A-Za-z0-9_-]. Our ids are narrower;
// this admits those of other brokers' meshes too.
func isID(s string) bool {
	if len(s) == 0 || len(s) > maxIDChars {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// number formats x as a JavaScript template literal does, which is how clients put it into what they
// sign: the shortest digits that read back as x, without an exponent from 1e-6 up to, not including,
// 1e21.
//
// Rejected: keeping the digits of the JSON text. A client signs the number it has, and a JSON encoder
// or a proxy may spell it differently (1e3, 1000.0).
func number(x float64) string {
	switch abs := math.Abs(x); {
	case x == 0:
		return "0" // also for -0
	case math.IsInf(x, 0):
		return strings.TrimPrefix(strconv.FormatFloat(x, 'f', -1, 64), "+") + "inity"
	case abs < 1e-6 || abs >= 1e21:
		return strings.Replace(strconv.FormatFloat(x, 'e', -1, 64), "e-0", "e-", 1) // 1e-07 is 1e-7 in JavaScript
	default:
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
}

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
