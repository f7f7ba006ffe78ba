package doctor

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshbox/broker"
	"meshbox/broker/clients"
	"meshbox/broker/store"
	"meshbox/web"
)

// patient is a healthy meshbox: a served data file, and a machine on which all is well.
type patient struct {
	Config
	t       *testing.T
	home    string
	handler http.Handler // of the broker
}

// newPatient starts one. The server listens at Listen, by HTTP.
func newPatient(t *testing.T) *patient {
	t.Helper()
	p := patientWithout(t)
	db, err := store.Open(p.DB, store.Options{Server: true})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(broker.Config{PublicURL: "http://localhost", Version: p.Version, Log: slog.New(slog.DiscardHandler), Limits: broker.DefaultLimits()}, db, web.FS)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { b.Run(ctx); close(ended) }()
	p.handler = b.Handler()
	server := httptest.NewServer(p.handler)
	p.Listen = server.Listener.Addr().String()
	p.URL = server.URL
	t.Cleanup(func() {
		drain, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		b.Drain(drain)
		server.Close()
		cancel()
		<-ended
		db.Close()
	})
	return p
}

// patientWithout is one whose server does not run.
func patientWithout(t *testing.T) *patient {
	t.Helper()
	schema, err := os.ReadFile("../../schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	p := &patient{t: t, home: home}
	p.Config = Config{
		DB: filepath.Join(home, "data", "meshbox.db"), Named: true, Listen: closedPort(t), URL: "http://" + closedPort(t), Keys: filepath.Join(home, "keys"), Version: "v1.0.0", Start: "meshbox serve", Binary: filepath.Join(home, "meshbox"),
		Machine: Machine{
			Now: time.Now, Free: func(string) (uint64, error) { return 1 << 40, nil }, Writable: func(string) error { return nil }, Files: func() (uint64, bool) { return 1 << 20, true },
			Run:      func(context.Context, string, ...string) (string, error) { return "yes\n", nil },
			LookPath: func(string) (string, error) { return "", fs.ErrNotExist },
			Clients:  clients.System{Home: home, Getenv: func(string) string { return "" }, LookPath: func(string) (string, error) { return "", fs.ErrNotExist }},
		},
	}
	p.write(p.Binary, "program", 0o700)
	if err := os.MkdirAll(filepath.Dir(p.DB), 0o700); err != nil {
		t.Fatal(err)
	}
	first := broker.NewMesh("home", "http://localhost", time.Now())
	db, err := store.Open(p.DB, store.Options{Schema: string(schema), Server: true, First: &first})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func (p *patient) write(path, content string, mode fs.FileMode) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		p.t.Fatal(err)
	}
}

// sql changes the data file as a database tool does.
func (p *patient) sql(statement string) {
	p.t.Helper()
	db, err := sql.Open("sqlite", p.DB)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = db.Exec(statement)
	if err := errors.Join(err, db.Close()); err != nil {
		p.t.Fatal(err)
	}
}

// serves has something else than the broker listen.
func (p *patient) serves(handler http.Handler) {
	server := httptest.NewServer(handler)
	p.t.Cleanup(server.Close)
	p.Listen, p.URL = server.Listener.Addr().String(), server.URL
}

// wants examines, and wants one finding of that state and check that says both texts,
// and no other that is not OK.
func (p *patient) wants(state, check, what, remedy string) {
	p.t.Helper()
	found := false
	for _, f := range Examine(p.t.Context(), p.Config) {
		if (f.State == OK) != (f.Remedy == "") {
			p.t.Errorf("a remedy stands by what is wrong, and by nothing else: %+v", f)
		}
		switch {
		case f.Check == check && f.State == state && strings.Contains(f.What, what) && strings.Contains(f.Remedy, remedy):
			found = true
		case f.State != OK:
			p.t.Errorf("unexpected: %+v", f)
		}
	}
	if !found {
		p.t.Errorf("there is no %s of %q that says %q and %q", state, check, what, remedy)
	}
}

func TestAllIsWell(t *testing.T) {
	p := newPatient(t)
	found := map[string]bool{}
	for _, f := range Examine(t.Context(), p.Config) {
		if found[f.Check] = true; f.State != OK {
			t.Errorf("%+v", f)
		}
	}
	for _, check := range []string{"data file", "permissions", "schema", "integrity", "write-ahead log", "disk space", "server", "public URL", "websocket", "secure context", "clock", "open files", "identities"} {
		if !found[check] {
			t.Errorf("%s was not looked at", check)
		}
	}
}

func TestDataFile(t *testing.T) {
	for name, test := range map[string]struct {
		spoil                      func(*patient)
		state, check, what, remedy string
	}{
		"readable by others": {func(p *patient) { os.Chmod(p.DB, 0o644) }, Fail, "permissions", "others may open " /* … */, "chmod 600 "},
		"log readable":       {func(p *patient) { os.Chmod(p.DB+"-wal", 0o640) }, Fail, "permissions", "meshbox.db-wal", "meshbox.db-wal"},
		"folder open":        {func(p *patient) { os.Chmod(filepath.Dir(p.DB), 0o777) }, Fail, "permissions", "others may write the folder", "chmod go-w "},
		"folder read-only": {func(p *patient) {
			p.Machine.Writable = func(string) error { return errors.New("read-only file system") }
		}, Fail, "permissions", "cannot be written: read-only file system", "mounted read-only"},
		"space ends":     {func(p *patient) { p.Machine.Free = func(string) (uint64, error) { return 50 << 20, nil } }, Fail, "disk space", "50.0 MiB are free", "make room"},
		"space is short": {func(p *patient) { p.Machine.Free = func(string) (uint64, error) { return 500 << 20, nil } }, Warn, "disk space", "500.0 MiB are free", "make room soon"},
		"space unknown": {func(p *patient) {
			p.Machine.Free = func(string) (uint64, error) { return 0, errors.New("no such device") }
		}, Warn, "disk space", "no such device", "df -h"},
		"log large": {func(p *patient) { os.Truncate(p.DB+"-wal", 65<<20) }, Warn, "write-ahead log", "65.0 MiB", "fuser"},
		"few files": {func(p *patient) { p.Machine.Files = func() (uint64, bool) { return 1024, true } }, Warn, "open files", "1024", "ulimit"},
		"no time service": {func(p *patient) {
			p.Machine.LookPath = func(string) (string, error) { return "/bin/timedatectl", nil }
			p.Machine.Run = func(context.Context, string, ...string) (string, error) { return "no\n", nil }
		}, Warn, "time service", "not kept right", "set-ntp"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			test.spoil(p)
			p.wants(test.state, test.check, test.what, test.remedy)
		})
	}
}

func TestDataFileOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	p := newPatient(t)
	if err := os.Chown(p.DB+".lock", 4242, -1); err != nil {
		t.Fatal(err)
	}
	p.wants(Fail, "permissions", "belongs to user 4242", "chown --reference=")
}

// What is wrong with a file that no server has open.
func TestDataFileAtRest(t *testing.T) {
	page := strings.Repeat("garbage ", 512)
	for name, test := range map[string]struct {
		spoil                      func(*patient)
		state, check, what, remedy string
	}{
		"missing":     {func(p *patient) { os.Remove(p.DB) }, Fail, "data file", "there is no data file", "--db"},
		"a folder":    {func(p *patient) { p.DB = filepath.Dir(p.DB) }, Fail, "data file", "is not a file", "--db"},
		"not a file":  {func(p *patient) { p.write(p.DB, page, 0o600) }, Fail, "schema", "is not a meshbox data file", "restore a backup"},
		"older":       {func(p *patient) { p.sql("PRAGMA user_version = 3") }, Warn, "schema", "schema 3, this program", "start the server"},
		"newer":       {func(p *patient) { p.sql("PRAGMA user_version = 999") }, Fail, "schema", "written by a newer meshbox", "update meshbox"},
		"no tables":   {func(p *patient) { p.sql("DROP TABLE topic_member; DROP TABLE topic") }, Fail, "integrity", "the data file is damaged", "restore a backup: tables are missing"},
		"index wrong": {func(p *patient) { p.damageIndex() }, Fail, "integrity", "the file is damaged: ", "restore a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			p := patientWithout(t)
			test.spoil(p)
			findings := Examine(t.Context(), p.Config)
			found := false
			for _, f := range findings {
				found = found || f.Check == test.check && f.State == test.state && strings.Contains(f.What, test.what) && strings.Contains(f.Remedy, test.remedy)
			}
			if !found {
				t.Errorf("got %+v", findings)
			}
		})
	}
}

// damageIndex overwrites the last page, which a new file has in use.
func (p *patient) damageIndex() {
	p.t.Helper()
	content, err := os.ReadFile(p.DB)
	if err != nil {
		p.t.Fatal(err)
	}
	copy(content[len(content)-4096:], strings.Repeat("\xff", 4096))
	p.write(p.DB, string(content), 0o600)
}

func TestNobodySaidWhichDataFile(t *testing.T) {
	p := patientWithout(t)
	p.Named = false
	os.Remove(p.DB)
	p.wants(Warn, "data file", "no data file was looked at", "--db")
}

func TestSpace(t *testing.T) {
	for _, test := range []struct {
		free, used uint64
		want       string
	}{{0, 0, Fail}, {64<<20 - 1, 0, Fail}, {64 << 20, 0, Warn}, {1<<30 - 1, 0, Warn}, {1 << 30, 0, OK}, {4 << 30, 5 << 30, Warn}, {6 << 30, 5 << 30, OK}} {
		if got := judgeSpace(test.free, test.used); got != test.want {
			t.Errorf("%d free beside %d: %s, want %s", test.free, test.used, got, test.want)
		}
	}
}

func TestServer(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) })
	t.Run("stopped", func(t *testing.T) {
		patientWithout(t).wants(Warn, "server", "no server is running", "start it with: meshbox serve")
	})
	t.Run("elsewhere", func(t *testing.T) {
		p := newPatient(t)
		p.Listen = closedPort(t)
		p.wants(Fail, "server", "does not answer at", "--listen")
	})
	t.Run("another version", func(t *testing.T) {
		p := newPatient(t)
		p.Version = "v2.0.0"
		p.wants(Warn, "server", "is v1.0.0, this program is v2.0.0", "start the server anew")
	})
	t.Run("another data file", func(t *testing.T) {
		p, other := patientWithout(t), newPatient(t)
		p.Listen, p.URL = other.Listen, other.URL
		p.wants(Warn, "server", "does not use", "--db")
	})
	t.Run("another program", func(t *testing.T) {
		p := patientWithout(t)
		p.serves(page)
		findings := Examine(t.Context(), p.Config)
		p.has(findings, Fail, "server", "is taken by another program")
		p.has(findings, Fail, "public URL", "does not lead to meshbox")
	})
	t.Run("degraded", func(t *testing.T) {
		p := patientWithout(t)
		p.serves(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			w.Write([]byte(`{"status":"degraded"}`))
		}))
		p.has(Examine(t.Context(), p.Config), Fail, "server", "is degraded")
	})
	t.Run("address", func(t *testing.T) {
		p := newPatient(t)
		p.Listen = "nonsense"
		p.wants(Fail, "server", `--listen "nonsense"`, "ADDRESS:PORT")
	})
}

// has wants a finding among others.
func (p *patient) has(findings []Finding, state, check, what string) {
	p.t.Helper()
	for _, f := range findings {
		if f.State == state && f.Check == check && strings.Contains(f.What, what) {
			return
		}
	}
	p.t.Errorf("there is no %s of %q that says %q in %+v", state, check, what, findings)
}

func TestURL(t *testing.T) {
	t.Run("remembered", func(t *testing.T) {
		p := newPatient(t)
		p.sql("INSERT INTO setting (key, value) VALUES ('public_url', '" + p.URL + "')")
		url := p.URL
		p.URL = ""
		p.wants(OK, "public URL", url+" answers", "")
	})
	t.Run("closed", func(t *testing.T) {
		p := newPatient(t)
		p.URL = "http://" + closedPort(t)
		p.wants(Fail, "public URL", "connection refused", "--public-url")
	})
	t.Run("a proxy without WebSockets", func(t *testing.T) {
		p := newPatient(t)
		p.URL = proxy(t, func(r *http.Request) { r.Header.Del("Upgrade"); r.Header.Del("Connection") }, p.handler)
		p.wants(Fail, "websocket", "does not become a WebSocket", "WebSocket upgrades")
	})
	t.Run("a proxy that changes the host", func(t *testing.T) {
		p := newPatient(t)
		p.URL = proxy(t, func(r *http.Request) { r.Host = "backend:7900" }, p.handler)
		p.wants(Fail, "websocket", "another Host", "keep the Host header")
	})
	t.Run("another clock", func(t *testing.T) {
		for ahead, state := range map[time.Duration]string{2 * time.Second: OK, -30 * time.Second: Warn, 90 * time.Second: Fail} {
			p := newPatient(t)
			p.URL = dated(t, ahead, p.handler)
			what := "agree"
			if state != OK {
				what = "differ by"
			}
			remedy := map[bool]string{true: "", false: "NTP"}[state == OK]
			p.wants(state, "clock", what, remedy)
		}
	})
	for url, state := range map[string]string{
		"http://localhost:7900": OK, "http://127.0.0.2": OK, "http://[::1]:1": OK, "http://box.localhost": OK, "https://mesh.example.org": OK,
		"http://192.168.1.5:7900": Warn, "http://mesh.example.org": Warn, "http://localhost.example.org": Warn,
	} {
		x := &examination{Config: Config{URL: url}}
		if x.secureContext(t.Context()); x.findings[0].State != state {
			t.Errorf("%s: %+v, want %s", url, x.findings[0], state)
		}
	}
}

// proxy stands before the broker and changes what passes.
func proxy(t *testing.T, change func(*http.Request), to http.Handler) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { change(r); to.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	return server.URL
}

// dated is a server whose clock is ahead.
func dated(t *testing.T, ahead time.Duration, to http.Handler) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		to.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestCertificate(t *testing.T) {
	p := newPatient(t)
	server := httptest.NewUnstartedServer(p.handler)                                 // for example.com and 127.0.0.1, signed by itself
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // handshakes shall fail
	server.StartTLS()
	defer server.Close()
	leaf := server.Certificate()
	trusted := x509.NewCertPool()
	trusted.AddCert(leaf)
	byName := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for name, test := range map[string]struct {
		url                 string
		roots               *x509.CertPool
		now                 time.Time
		state, what, remedy string
	}{
		"trusted":     {server.URL, trusted, time.Now(), OK, "browsers trust it until " + leaf.NotAfter.Format(time.DateOnly), ""},
		"self-signed": {server.URL, nil, time.Now(), Fail, "is self-signed", "ACME"},
		"expired":     {server.URL, trusted, leaf.NotAfter.Add(time.Hour), Fail, "ended on " + leaf.NotAfter.Format(time.DateOnly), "renew"},
		"ends soon":   {server.URL, trusted, leaf.NotAfter.Add(-3 * 24 * time.Hour), Warn, "ends on", "renewed by itself"},
		"not yet":     {server.URL, trusted, leaf.NotBefore.Add(-time.Hour), Fail, "begins on", "clocks"},
		"other name":  {byName, trusted, time.Now(), Fail, "is not for localhost but for example.com, ", "--public-url"},
	} {
		t.Run(name, func(t *testing.T) {
			q := *p
			q.t = t
			q.URL, q.Machine.Roots, q.Machine.Now = test.url, test.roots, func() time.Time { return test.now }
			q.wants(test.state, "certificate", test.what, test.remedy)
		})
	}
}

func TestIdentities(t *testing.T) {
	const empty = `{"version": 1, "identities": []}`
	for name, test := range map[string]struct {
		spoil        func(*patient, string)
		what, remedy string
	}{
		"readable by others": {func(p *patient, file string) { p.write(file, empty, 0o644) }, "others may open", "chmod 600 "},
		"folder open":        {func(p *patient, file string) { p.write(file, empty, 0o600); os.Chmod(p.Keys, 0o777) }, "others may write", "chmod 700 "},
		"damaged":            {func(p *patient, file string) { p.write(file, "{", 0o600) }, "is damaged", "restore it"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			test.spoil(p, filepath.Join(p.Keys, "identities.json"))
			p.wants(Fail, "identities", test.what, test.remedy)
		})
	}
}

func TestClients(t *testing.T) {
	entry := func(command, args string) string {
		return `{"mcpServers": {"meshbox": {"command": "` + command + `", "args": [` + args + `]}}}`
	}
	for name, test := range map[string]struct {
		file                func(*patient) string // of Cursor
		state, what, remedy string
	}{
		"not set up":      {func(*patient) string { return "{}" }, OK, "does not start meshbox", ""},
		"this program":    {func(p *patient) string { return entry(p.Binary, `"mcp"`) }, OK, "cursor starts this program", ""},
		"by name":         {func(p *patient) string { return entry("meshbox", `"mcp"`) }, OK, "cursor starts this program", ""},
		"gone":            {func(p *patient) string { return entry(p.home+"/gone", `"mcp"`) }, Fail, "/gone, which is not there", "meshbox join --client cursor LINK"},
		"no program":      {func(p *patient) string { return entry(p.DB, `"mcp"`) }, Fail, "which is no program", "meshbox join"},
		"another program": {func(p *patient) string { p.write(p.home+"/old", "", 0o700); return entry(p.home+"/old", `"mcp"`) }, Warn, "another program than this one", "an older one"},
		"no tools":        {func(p *patient) string { return entry(p.Binary, `"serve"`) }, Fail, `with "serve", which gives it no tools`, "meshbox join"},
		"no keys":         {func(p *patient) string { return entry(p.Binary, `"mcp", "--config", "`+p.home+`/nobody"`) }, Fail, "where there are none", "meshbox join"},
		"broken":          {func(*patient) string { return "{" }, Warn, "no valid JSON", ".before-meshbox"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			p.write(filepath.Join(p.home, ".cursor", "mcp.json"), test.file(p), 0o600)
			p.wants(test.state, "clients", test.what, test.remedy)
		})
	}
	t.Run("hooks", func(t *testing.T) {
		p := newPatient(t)
		change := p.Machine.Clients.AddHooks("claude", "'"+p.home+"/my box/meshbox' hook claude --config /x")
		p.write(filepath.Join(p.home, ".claude", "settings.json"), string(change.After), 0o600)
		p.wants(Fail, "clients", "hooks call "+p.home+"/my box/meshbox, which is not there", "meshbox leave")
	})
}

func TestWithoutAHome(t *testing.T) {
	p := newPatient(t)
	p.Keys, p.Machine.Clients = "", clients.System{}
	for _, f := range Examine(t.Context(), p.Config) {
		if f.State != OK || f.Check == "identities" || f.Check == "clients" {
			t.Errorf("%+v", f)
		}
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 1 << 40: "1.0 TiB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}
