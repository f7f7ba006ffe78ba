package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Message is one protocol message, in either direction, without its "type" and
// "_reqId", which belong to the frame.
type Message interface {
	// Type is the value of the frame's "type" field.
	Type() string
}

// Encode returns the text frame of m. reqID, when not empty, is the "_reqId" of
// the request that m answers (or of m itself, when m is a request).
func Encode(m Message, reqID string) []byte {
	body, err := json.Marshal(m)
	if err != nil {
		// Every Message is a plain struct of ours; only a raw JSON field that was
		// never valid could fail here, and Decode lets none in.
		panic(fmt.Sprintf("wire: encoding %s: %v", m.Type(), err))
	}
	frame := make([]byte, 0, len(body)+len(m.Type())+len(reqID)+24)
	frame = append(frame, `{"type":`...)
	frame = strconv.AppendQuote(frame, m.Type())
	if len(body) > 2 {
		frame = append(frame, ',')
		frame = append(frame, body[1:len(body)-1]...)
	}
	if reqID != "" {
		id, _ := json.Marshal(reqID)
		frame = append(frame, `,"_reqId":`...)
		frame = append(frame, id...)
	}
	return append(frame, '}')
}

// DecodeRequest parses a frame a client sent. On failure the returned error has
// code malformed or unknown_message_type; reqID and kind are returned whenever
// they could be read, so that the answer reaches the right request.
func DecodeRequest(frame []byte) (m Message, kind, reqID string, err *Error) {
	return decode(frame, requests)
}

// DecodeResponse parses a frame the broker sent, for the other end of the wire.
func DecodeResponse(frame []byte) (m Message, kind, reqID string, err *Error) {
	return decode(frame, responses)
}

func decode(frame []byte, known map[string]func() Message) (m Message, kind, reqID string, _ *Error) {
	h := plainHead(frame)
	if h.Type == "" {
		if err := json.Unmarshal(frame, &h); err != nil {
			return nil, h.Type, h.ReqID, malformed(err)
		}
	}
	if h.Type == "" {
		return nil, "", h.ReqID, NewError(Malformed, `The frame has no string "type"; every frame must be a JSON object with one.`)
	}
	construct, ok := known[h.Type]
	if !ok {
		return nil, h.Type, h.ReqID, NewError(UnknownMessageType,
			fmt.Sprintf("This broker does not know messages of type %q; check its spelling, or update meshbox.", clip(h.Type, 64)))
	}
	m = construct()
	if err := json.Unmarshal(frame, m); err != nil {
		return nil, h.Type, h.ReqID, malformed(err)
	}
	return m, h.Type, h.ReqID, nil
}

// head is what every frame may carry beside its message.
type head struct {
	Type  string `json:"type"`
	ReqID string `json:"_reqId"`
}

// plainHead reads the head of a frame that begins with its type and has no
// _reqId, as nearly all sends, pushes and acks do, without parsing all of it: a
// frame is then parsed once instead of twice. The zero head means that it takes
// a parser; whether the frame is valid the second parse finds out.
func plainHead(frame []byte) head {
	rest, ok := bytes.CutPrefix(frame, []byte(`{"type":"`))
	if !ok || bytes.IndexByte(frame, '\\') >= 0 || bytes.Contains(rest, []byte(`"type"`)) || bytes.Contains(rest, []byte(`"_reqId"`)) {
		return head{}
	}
	for i, c := range rest {
		if c == '"' {
			return head{Type: string(rest[:i])}
		}
		if c != '_' && (c < 'a' || c > 'z') {
			break
		}
	}
	return head{}
}

// malformed turns what encoding/json says into a sentence about the field.
func malformed(err error) *Error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return NewError(Malformed, fmt.Sprintf("Field %q must not be a JSON %s; see the protocol for its type.", clip(wrong.Field, 64), wrong.Value))
	}
	return NewError(Malformed, "The frame is not one valid JSON object; send one object per text frame.")
}

// table indexes message constructors by their type name.
func table(constructors ...func() Message) map[string]func() Message {
	byType := make(map[string]func() Message, len(constructors))
	for _, construct := range constructors {
		byType[construct().Type()] = construct
	}
	return byType
}

// Millis is an instant in Unix milliseconds as a client wrote it. A client may
// send anything there; what is no finite number becomes NaN, so that the check
// which names the field, and not the JSON decoder, gets to refuse it.
type Millis float64

// At returns the Millis of t.
func At(t time.Time) *Millis {
	m := Millis(t.UnixMilli())
	return &m
}

// UnmarshalJSON never fails; see Millis.
func (m *Millis) UnmarshalJSON(text []byte) error {
	number, err := strconv.ParseFloat(string(bytes.TrimSpace(text)), 64)
	if err != nil || math.IsInf(number, 0) {
		number = math.NaN()
	}
	*m = Millis(number)
	return nil
}

// MarshalJSON writes the number in full, as JavaScript does; NaN becomes null.
func (m Millis) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(m)) || math.IsInf(float64(m), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(m), 'f', -1, 64), nil
}

// Float returns the instant as a number, NaN when the field was absent or null.
func (m *Millis) Float() float64 {
	if m == nil {
		return math.NaN()
	}
	return float64(*m)
}

// Time formats an instant as the wire's …At fields have it: RFC 3339, UTC,
// exactly three decimals.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// OptionalTime is Time, or null for the zero time.
func OptionalTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := Time(t)
	return &text
}
