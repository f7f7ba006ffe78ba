package bench

import (
	"encoding/base64"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"meshbox/broker/wire"
)

const someKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// What the templates write, the protocol's own decoder reads, and the scanner
// finds again in what the broker makes of it.
func TestMessagesSurviveTheTemplates(t *testing.T) {
	r := newRun()
	for _, target := range []string{someKey, "#bench-" + someKey[:8]} {
		for _, size := range []int{MinSize, MinSize + 1, 400} {
			frames := newTemplate(r, 77, target, size)
			for _, n := range []int{0, 1, 1 << 40} {
				m, _, _, bad := wire.DecodeRequest(frames.with(n))
				if bad != nil {
					t.Fatal(bad)
				}
				wantMessage(t, r, m.(*wire.Send), target, size, n)
			}
		}
	}
}

func wantMessage(t *testing.T, r run, m *wire.Send, target string, size, n int) {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(m.Ciphertext)
	if err != nil || len(text) != size || !utf8.Valid(text) || strings.ContainsAny(string(text), "@#") {
		t.Errorf("the text is %q, %v, want %d readable bytes", text, err, size)
	}
	if m.TargetSpec != target || m.Priority != wire.PriorityNext || !wire.IsBase64(m.Nonce) || (m.BodyVersion == 1) != (target[0] == '#') {
		t.Errorf("%+v", m)
	}
	push := wire.Encode(&wire.Push{
		MessageID: "0VbmTqtPyVQcVgtg4JfBnekxDlVVps", SenderName: `"ciphertext":"no","messageId":"no"`, Ciphertext: m.Ciphertext, ClientMessageID: m.ClientMessageID,
	}, "")
	sender, number, ok := r.read(field(push, ciphertextKey))
	if !ok || sender != 77 || number != n {
		t.Errorf("read sender %d, number %d, %v, want 77 and %d", sender, number, ok, n)
	}
	if id := string(field(push, messageIDKey)); id != "0VbmTqtPyVQcVgtg4JfBnekxDlVVps" {
		t.Errorf("read message id %q", id)
	}
	if _, _, ok := newRun().read(field(push, ciphertextKey)); ok {
		t.Error("a message of one run passed for one of another")
	}
	if got, code, ok := readAck(wire.Encode(&wire.Ack{ID: m.ID, MessageID: "x", Queued: true}, "")); !ok || got != n || code != "" {
		t.Errorf("read ack %d, %q, %v", got, code, ok)
	}
}

func TestForeignMessagesAreNotOurs(t *testing.T) {
	for _, ciphertext := range []string{"", "aGk=", strings.Repeat("A", 400), strings.Repeat("!", 400)} {
		if sender, n, ok := newRun().read([]byte(ciphertext)); ok {
			t.Errorf("%.20q was read as sender %d, number %d", ciphertext, sender, n)
		}
	}
}

func TestRefusalsAreReadWithTheirCode(t *testing.T) {
	const id = "00000000000000ff"
	for want, m := range map[string]wire.Message{
		"rate_limit": &wire.Ack{ID: id, Error: "rate_limit: slow down, try again in 2 s"},
		"forbidden":  &wire.Error{Code: "forbidden", Message: "missing", ID: id},
	} {
		if n, code, ok := readAck(wire.Encode(m, "")); !ok || n != 255 || code != want {
			t.Errorf("read %d, %q, %v, want 255 and %s", n, code, ok, want)
		}
	}
	if _, _, ok := readAck(wire.Encode(&wire.Error{Code: "slow_consumer", Message: "too slow"}, "")); ok {
		t.Error("an error that answers nothing was taken for an answer")
	}
}

func TestClientAcksAreThoseOfTheProtocol(t *testing.T) {
	m, _, _, bad := wire.DecodeRequest(clientAck(nil, []byte("abc")))
	if ack, ok := m.(*wire.ClientAck); bad != nil || !ok || ack.BrokerMessageID != "abc" {
		t.Errorf("%+v, %v", m, bad)
	}
}

func TestAProcessMeasuresItself(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc on this system")
	}
	before, err := Process(os.Getpid())(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ballast := make([]byte, 64<<20)
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		for i := range ballast {
			ballast[i]++
		}
	}
	after, err := Process(os.Getpid())(t.Context())
	if err != nil || after.CPU <= before.CPU || after.Memory < int64(len(ballast)) {
		t.Errorf("from %+v to %+v, %v: want processor time, and 64 MiB at least", before, after, err)
	}
	_ = ballast[len(ballast)-1]
}
