package gate

import (
	"io"
	"net/http"
	"time"
)

const (
	bodyTime   = 30 * time.Second // for a body to come in, and as long again for each bodyPart
	bodyPart   = 1 << 20          // bytes
	answerTime = 2 * time.Minute  // for an answer to be taken; streams set their own
)

// limitTime gives a request's body a time to come in, and its answer a time to be
// taken. The deadline of the body is lifted as soon as it is read, as the answer may
// be a stream that goes on for hours; of a body that nobody reads to its end it stays,
// and net/http sets the next one with the next request.
func limitTime(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(answerTime)) // fails if there is no connection below
	if r.ContentLength == 0 || r.Body == nil || control.SetReadDeadline(time.Now().Add(bodyTime)) != nil {
		return
	}
	r.Body = &timedBody{ReadCloser: r.Body, control: control}
}

// timedBody is a body whose deadline is lifted at its end.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	since   int // bytes since the deadline was set
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.since += n; b.since >= bodyPart {
		b.since = 0
		_ = b.control.SetReadDeadline(time.Now().Add(bodyTime))
	}
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
