package wire

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of single fields. What a person typed is cut or cleaned; what a
// program must get right is refused.
const (
	DefaultMaxMessage = 64 << 10 // bytes of nonce+ciphertext+targetSpec in one send
	FrameOverhead     = 16 << 10 // bytes a frame may have beyond its payload

	MaxNameLen    = 64   // characters of a display name or group name
	MaxSummaryLen = 1000 // characters of a presence summary
	MaxTextLen    = 2000 // characters of a description, bio, folder or similar
	MaxIDLen      = 128  // bytes of an id chosen by a client
	MaxGroups     = 32   // groups of one presence
	MaxMentions   = 16   // mentions of one message
	MaxObject     = 8 << 10
	MaxQueryLen   = 200 // characters of a search

	DefaultHistory = 50  // messages of one topic_history answer
	MaxHistory     = 200 // messages of one topic_history answer
	DefaultAudit   = 50  // entries of one audit_result
	MaxAudit       = 200 // entries of one audit_result
)

// The priorities of a message.
const (
	PriorityNow  = "now"
	PriorityNext = "next"
	PriorityLow  = "low"
)

// The statuses of a presence.
const (
	StatusIdle    = "idle"
	StatusWorking = "working"
	StatusDND     = "dnd"
)

// The kinds of peers a hello may name.
const (
	PeerAI        = "ai"
	PeerHuman     = "human"
	PeerConnector = "connector"
)

// The roles of a presence in peers_list.
const (
	RoleSession      = "session"
	RoleControlPlane = "control-plane"
)

// The roles in a topic, and its visibilities.
const (
	TopicLead     = "lead"
	TopicMember   = "member"
	TopicObserver = "observer"

	VisibilityPublic  = "public"
	VisibilityPrivate = "private"
	VisibilityDM      = "dm"

	// General is the room every mesh has and every member is in.
	General = "general"
)

// ValidPriority reports whether p is one of now, next and low.
func ValidPriority(p string) bool { return p == PriorityNow || p == PriorityNext || p == PriorityLow }

// ValidStatus reports whether s is one of idle, working and dnd.
func ValidStatus(s string) bool { return s == StatusIdle || s == StatusWorking || s == StatusDND }

// ValidTopicName reports whether name is 1–50 of [a-z0-9_-] and starts with a
// letter or digit (protocol section 7).
func ValidTopicName(name string) bool {
	if name == "" || len(name) > 50 || name[0] == '_' || name[0] == '-' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// PeerType returns t if the protocol knows it, else "".
func PeerType(t string) string {
	if t == PeerAI || t == PeerHuman || t == PeerConnector {
		return t
	}
	return ""
}

// CleanLine makes one line of what a person or program called something:
// control and bidi-override characters go, white space is folded, and at most
// limit characters stay.
func CleanLine(s string, limit int) string {
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if unicode.IsControl(r) || isBidiControl(r) {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(clip(strings.Join(strings.Fields(s), " "), limit))
}

// isBidiControl reports the characters that make a name read as another one.
func isBidiControl(r rune) bool {
	return r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069
}

// clip returns at most limit characters of s.
func clip(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit])
}

// IsBase64 reports whether s is standard base64 with padding (RFC 4648 section
// 4), without line breaks. The empty string is.
func IsBase64(s string) bool {
	if strings.ContainsAny(s, "\r\n") {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(s)
	return err == nil
}
