package bench

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"

	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// A message tells who it is at the start of its text: 8 characters of the run, 8
// of the sender and 16 of its number, hex all of them. That is its
// client_message_id too. The text is readable, as posts to topics must be.
const (
	runLen    = 8
	senderLen = 8
	numberLen = 16
	tagLen    = runLen + senderLen + numberLen

	// MinSize is the least a message's text may have, in bytes: a tag, filled up
	// to what base64 takes as a whole.
	MinSize = (tagLen + 2) / 3 * 3
	codeLen = MinSize / 3 * 4 // of that in base64
)

// run tells the messages of one run from those of others.
type run string

func newRun() run {
	random := make([]byte, runLen/2)
	rand.Read(random) // never fails (crypto/rand)
	return run(hex.EncodeToString(random))
}

// read returns sender and number of a message of this run.
func (r run) read(ciphertext []byte) (sender, number int, ok bool) {
	var text [MinSize]byte
	if len(ciphertext) < codeLen {
		return 0, 0, false
	}
	if _, err := base64.StdEncoding.Decode(text[:], ciphertext[:codeLen]); err != nil || string(text[:runLen]) != string(r) {
		return 0, 0, false
	}
	sender, okSender := readHex(text[runLen : runLen+senderLen])
	number, okNumber := readHex(text[runLen+senderLen : tagLen])
	return sender, number, okSender && okNumber
}

const hexDigits = "0123456789abcdef"

// putHex writes n over all of dst.
func putHex(dst []byte, n int) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = hexDigits[n&15]
		n >>= 4
	}
}

func readHex(digits []byte) (n int, ok bool) {
	for _, c := range digits {
		switch {
		case n > math.MaxInt>>4:
			return 0, false
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// Text is a readable text of size bytes that cannot be compressed to much less,
// and mentions nobody.
func Text(size int) string {
	random := make([]byte, size)
	rand.Read(random) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(random)[:size]
}

// template is the send frame of one sender, into which the number is written for
// each message. It is not safe for concurrent use.
type template struct {
	frame   []byte
	numbers []int         // where the number stands readable
	code    int           // where the start of the ciphertext stands
	text    [MinSize]byte // what that is
}

// newTemplate makes the send frames of a sender: size bytes of text to target.
func newTemplate(r run, sender int, target string, size int) *template {
	const number = "################" // in no base64, hex or name
	text := []byte(Text(size))
	copy(text, r)
	putHex(text[runLen:runLen+senderLen], sender)
	copy(text[runLen+senderLen:], number)
	nonce, ciphertext := peer.Plain(string(text))
	m := wire.Send{
		TargetSpec: target, Priority: wire.PriorityNext, Nonce: nonce, Ciphertext: ciphertext, ID: number, ClientMessageID: string(text[:tagLen]),
	}
	if target[0] == '#' {
		m.BodyVersion = 1
	}
	t := &template{frame: wire.Encode(&m, "")}
	copy(t.text[:], text)
	t.code = bytes.Index(t.frame, []byte(ciphertextKey)) + len(ciphertextKey)
	for at := 0; ; {
		next := bytes.Index(t.frame[at:], []byte(number))
		if next < 0 {
			return t
		}
		t.numbers = append(t.numbers, at+next)
		at += next + numberLen
	}
}

// with returns the frame of message n; it is valid until the next call.
func (t *template) with(n int) []byte {
	for _, at := range t.numbers {
		putHex(t.frame[at:at+numberLen], n)
	}
	putHex(t.text[runLen+senderLen:tagLen], n)
	base64.StdEncoding.Encode(t.frame[t.code:], t.text[:])
	return t.frame
}

// field returns the text of a string field of a frame, as it stands there. The
// key cannot be mistaken inside of another text, where its quotes would be
// escaped. Values with escapes are cut at the first quote; those that are asked
// for have none.
func field(frame []byte, key string) []byte {
	at := bytes.Index(frame, []byte(key))
	if at < 0 {
		return nil
	}
	value := frame[at+len(key):]
	end := bytes.IndexByte(value, '"')
	if end < 0 {
		return nil
	}
	return value[:end]
}

// The fields that are scanned for.
const (
	typeKey       = `"type":"`
	idKey         = `"id":"`
	messageIDKey  = `"messageId":"`
	ciphertextKey = `"ciphertext":"`
	systemPush    = `"senderPubkey":"system"`
	queued        = `"queued":true`
)

// clientAck is the client_ack of a push, written over dst.
func clientAck(dst []byte, messageID []byte) []byte {
	dst = append(dst[:0], `{"type":"client_ack","brokerMessageId":"`...)
	dst = append(dst, messageID...)
	return append(dst, `"}`...)
}

// readAck returns the number that an ack or an error answers, and why it was
// refused: a code, "" if it was not.
func readAck(frame []byte) (number int, code string, ok bool) {
	id := field(frame, idKey)
	if len(id) != numberLen {
		return 0, "", false
	}
	if number, ok = readHex(id); !ok || bytes.Contains(frame, []byte(queued)) {
		return number, "", ok
	}
	var m struct{ Code, Error string }
	if err := json.Unmarshal(frame, &m); err != nil {
		return number, wire.Malformed, ok
	}
	if m.Code == "" { // an ack says "<code>: <sentence>"
		m.Code, _, _ = strings.Cut(m.Error, ":")
	}
	return number, m.Code, ok
}
