package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEveryMessageSurvivesTheWire(t *testing.T) {
	for name, known := range map[string]map[string]func() Message{"requests": requests, "responses": responses} {
		for kind, construct := range known {
			m := construct()
			fill(reflect.ValueOf(m).Elem())
			frame := Encode(m, "r1")
			got, gotKind, reqID, err := decode(frame, known)
			if err != nil || gotKind != kind || reqID != "r1" {
				t.Errorf("%s %s: kind %q, reqID %q, %v", name, kind, gotKind, reqID, err)
				continue
			}
			if again := Encode(got, "r1"); string(again) != string(frame) {
				t.Errorf("%s %s:\n%s\n%s", name, kind, frame, again)
			}
		}
	}
}

// fill sets every field to something that is not its zero value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte(`{"a":[1,"b"]}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), value)
	case reflect.String:
		v.SetString(`text "quoted" <&> ☃`)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(1795385701015)
	default:
		panic("a kind of field the test does not know: " + v.Kind().String())
	}
}

func TestDecodeSaysWhatIsWrong(t *testing.T) {
	tests := []struct{ frame, code, says string }{
		{``, Malformed, "valid JSON object"},
		{`{"type":"send"`, Malformed, "valid JSON object"},
		{`[]`, Malformed, "valid JSON object"},
		{`{}`, Malformed, `no string "type"`},
		{`{"type":7}`, Malformed, `"type" must not be a JSON number`},
		{`{"type":"hello_ack"}`, UnknownMessageType, `"hello_ack"`},
		{`{"type":"send","targetSpec":{}}`, Malformed, `"targetSpec" must not be a JSON object`},
		{`{"type":"send"} {"type":"send"}`, Malformed, "valid JSON object"},
	}
	for _, tt := range tests {
		_, _, _, err := DecodeRequest([]byte(tt.frame))
		if err == nil || err.Code != tt.code || !strings.Contains(err.Message, tt.says) {
			t.Errorf("%s: %v, want %s with %q", tt.frame, err, tt.code, tt.says)
		}
	}
	if _, kind, reqID, err := DecodeRequest([]byte(`{"type":"send","_reqId":"r","priority":1}`)); err == nil || kind != "send" || reqID != "r" {
		t.Errorf("kind %q, reqID %q, %v: an answer must find its request", kind, reqID, err)
	}
}

func TestAttestationTellsAbsentFromEmptyCaps(t *testing.T) {
	for text, want := range map[string]bool{`{}`: true, `{"allowed_caps":null}`: true, `{"allowed_caps":[]}`: false} {
		var a Attestation
		if err := json.Unmarshal([]byte(text), &a); err != nil || (a.AllowedCaps == nil) != want {
			t.Errorf("%s: caps %v, nil wanted: %v, %v", text, a.AllowedCaps, want, err)
		}
	}
	empty, _ := json.Marshal(Attestation{AllowedCaps: []string{}})
	if !strings.Contains(string(empty), `"allowed_caps":[]`) {
		t.Errorf("empty caps are encoded as %s", empty)
	}
}

func TestMillisTakesAnything(t *testing.T) {
	for text, want := range map[string]float64{
		`1795385701015`: 1795385701015, `1.795385701015e12`: 1795385701015, `-1.5`: -1.5, `0`: 0,
		`"1795385701015"`: math.NaN(), `true`: math.NaN(), `{}`: math.NaN(), `1e999`: math.NaN(), `null`: math.NaN(),
	} {
		var v struct {
			T *Millis `json:"t"`
		}
		if err := json.Unmarshal(fmt.Appendf(nil, `{"t":%s}`, text), &v); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := v.T.Float(); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%s = %v, want %v", text, got, want)
		}
	}
	if text, _ := json.Marshal(At(time.UnixMilli(1795385701015))); string(text) != "1795385701015" {
		t.Errorf("encoded as %s", text)
	}
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 11, 22, 23, 14, 57, 881_999_999, time.FixedZone("", 3600))
	if got := Time(at); got != "2026-11-22T22:14:57.881Z" {
		t.Errorf("Time = %s", got)
	}
	if OptionalTime(time.Time{}) != nil {
		t.Error("the zero time must be null")
	}
}

func TestCleanLine(t *testing.T) {
	for text, want := range map[string]string{
		"  a \n\t b ": "a b", "\x1b[31mred": "[31mred", "a\u202eb\u2066c": "abc", "\xff": "�", "": "", strings.Repeat("ü", 70): strings.Repeat("ü", 64),
	} {
		if got := CleanLine(text, MaxNameLen); got != want {
			t.Errorf("CleanLine(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestCloseReasonsFitAFrame(t *testing.T) {
	for reason := range closeCodes {
		if len(reason) > MaxCloseReasonLen {
			t.Errorf("%s has %d bytes", reason, len(reason))
		}
	}
	if CloseCode("nosuch") != CloseInternal || CloseCode(Revoked) != 4002 {
		t.Error("CloseCode does not follow the table")
	}
}

// FuzzDecode: whatever comes in, decoding never panics, and what was decoded
// and encoded again decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, construct := range requests {
		m := construct()
		f.Add(Encode(m, ""))
		fill(reflect.ValueOf(m).Elem())
		f.Add(Encode(m, "r"))
	}
	f.Add([]byte(`{"type":"hello","TIMESTAMP":"x","timestamp":1e400,"pid":null}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, kind, reqID, bad := DecodeRequest(frame)
		if bad != nil {
			if m != nil || bad.Code == "" || bad.Message == "" {
				t.Fatalf("%q: message %v beside error %v", frame, m, bad)
			}
			return
		}
		if kind != m.Type() {
			t.Fatalf("%q: kind %q of a %s", frame, kind, m.Type())
		}
		once := Encode(m, reqID)
		again, _, againID, bad := DecodeRequest(once)
		if bad != nil || againID != reqID {
			t.Fatalf("%q → %q: %v", frame, once, bad)
		}
		if twice := Encode(again, againID); string(twice) != string(once) {
			t.Fatalf("%q → %q → %q", frame, once, twice)
		}
	})
}
