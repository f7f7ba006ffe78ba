package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"meshbox/broker/clients"
	"meshbox/broker/store"
)

// What a finding can be.
const (
	OK   = "ok"
	Warn = "warn" // it works, but something will go wrong, or somebody is left out
	Fail = "fail"
)

// Finding is what a check found.
type Finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // OK, Warn or Fail
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"` // what to do, unless it is OK
}

// Config says what to look at.
type Config struct {
	DB      string // the data file
	Named   bool   // somebody said which: then it has to be there
	Start   string // the command that starts the server
	Listen  string // where the server listens, such as 127.0.0.1:7900
	URL     string // what people use; "" for what the server said last
	Keys    string // folder of identities; "" if there is no home for one
	Version string // of this program
	Binary  string // path of this program; "" if it is not known

	Machine Machine
}

// Machine is what of the machine the checks ask.
type Machine struct {
	Now      func() time.Time
	Free     func(folder string) (bytes uint64, err error)                          // space for who runs this
	Writable func(folder string) error                                              // nil if one may make files there
	Files    func() (limit uint64, ok bool)                                         // open files of a process
	Run      func(ctx context.Context, name string, args ...string) (string, error) // what it printed
	LookPath func(string) (string, error)
	Roots    *x509.CertPool // nil: those of the system
	Clients  clients.System // without Home: not looked at
}

// defaultURL is where a server is that nobody told anything.
const defaultURL = "http://localhost:7900"

// PublicURLKey is the setting in which the server keeps its address.
const PublicURLKey = "public_url"

// examination is one run of the checks, with what the earlier ones leave for the
// later ones.
type examination struct {
	Config
	check    string // the one that runs
	findings []Finding

	known   bool      // the data file has the schema of this program
	db      *store.DB // nil: it was not opened
	served  bool      // a server has the data file open
	running bool      // a meshbox answers where the server listens
	answer  *Answer   // of the URL, nil if there is none
}

// checks are made in this order.
var checks = []struct {
	name string
	run  func(*examination, context.Context)
}{
	{"data file", (*examination).dataFile},
	{"permissions", (*examination).permissions},
	{"schema", (*examination).schema},
	{"integrity", (*examination).integrity},
	{"write-ahead log", (*examination).log},
	{"disk space", (*examination).space},
	{"server", (*examination).server},
	{"public URL", (*examination).publicURL},
	{"websocket", (*examination).websocket},
	{"secure context", (*examination).secureContext},
	{"certificate", (*examination).certificate},
	{"clock", (*examination).clock},
	{"time service", (*examination).timeService},
	{"open files", (*examination).openFiles},
	{"identities", (*examination).identities},
	{"clients", (*examination).agents},
}

// Examine makes all checks.
func Examine(ctx context.Context, c Config) []Finding {
	x := &examination{Config: c}
	defer func() {
		if x.db != nil {
			x.db.Close()
		}
	}()
	for _, check := range checks {
		x.check = check.name
		check.run(x, ctx)
	}
	return x.findings
}

func (x *examination) ok(format string, args ...any) {
	x.findings = append(x.findings, Finding{Check: x.check, State: OK, What: fmt.Sprintf(format, args...)})
}

func (x *examination) warn(remedy, format string, args ...any) {
	x.findings = append(x.findings, Finding{Check: x.check, State: Warn, What: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (x *examination) fail(remedy, format string, args ...any) {
	x.findings = append(x.findings, Finding{Check: x.check, State: Fail, What: fmt.Sprintf(format, args...), Remedy: remedy})
}

// sentence takes an error for a person apart: what is wrong; what to do.
func sentence(err error) (what, remedy string) {
	what, remedy, _ = strings.Cut(err.Error(), "; ")
	return what, remedy
}

// size is a number of bytes for a person.
func size[T int64 | uint64](bytes T) string {
	value, unit := float64(bytes), "bytes"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, larger
	}
	if unit == "bytes" {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
