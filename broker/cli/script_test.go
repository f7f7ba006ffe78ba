//go:build unix

package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"meshbox/web"
)

// The scripts in testdata/script drive the program as a person does: as a
// command, with files, ports and signals.

const schemaPath = "../../schema.sql"

// TestMain makes the test binary the program too: scripts run it as "meshbox".
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"meshbox": func() {
			schema, err := os.ReadFile(os.Getenv("SCHEMA"))
			if err != nil {
				panic(err)
			}
			os.Exit(Main(os.Args[1:], Assets{Schema: string(schema), Web: web.FS}))
		},
	})
}

func TestScripts(t *testing.T) {
	schema, err := filepath.Abs(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("SCHEMA", schema)
			e.Setenv("BIN", filepath.SplitList(e.Getenv("PATH"))[0]) // where meshbox is, and no other program
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector's second at each exit adds up
			processes := running{}
			e.Values[runningKey{}] = processes
			e.Defer(processes.killAll)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"up": cmdUp, "bg": cmdBackground, "down": cmdDown, "crash": cmdCrash, "await": cmdAwait, "fails": cmdFails,
			"field": cmdField, "keys": cmdKeys, "mode": cmdMode, "poke": cmdPoke, "get": cmdGet, "onterminal": cmdOnTerminal,
			"sleep": cmdSleep, "link": cmdLink, "is": cmdIs, "write": cmdWrite, "present": cmdPresent,
			"pause": cmdPause, "resume": cmdResume, "flood": cmdFlood, "sql": cmdSQL, "rest": cmdREST, "hook": cmdHook,
			"glob": cmdGlob, "truncate": cmdTruncate,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// running are the background processes of a script, by name.
type running map[string]*exec.Cmd

type runningKey struct{}

func processes(ts *testscript.TestScript) running { return ts.Value(runningKey{}).(running) }

func (r running) killAll() {
	for _, p := range r {
		p.Process.Kill()
		p.Wait()
	}
}

// patience bounds every wait for a process; the race detector is slow.
const patience = time.Minute

// eventually reports whether ok became true in time.
func eventually(ok func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// check fails the script unless it has the arguments a command needs.
func check(ts *testscript.TestScript, neg bool, args []string, least int, usage string) {
	if neg || len(args) < least {
		ts.Fatalf("usage: %s", usage)
	}
}

// cmdUp starts a server and waits until it is ready. It listens on $PORT, or on
// a free port if that is not set, and sets PORT and URL. What it prints is in
// up.out and up.err.
func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 0, "up [flag...]")
	listen := "127.0.0.1:" + or(ts.Getenv("PORT"), "0")
	start(ts, "up", append([]string{"--listen", listen}, args...))
	var port string
	scheme := "http"
	found := regexp.MustCompile(`"msg":"serving","listen":"[^"]*:(\d+)".*"tls":(true|false)`)
	if !eventually(func() bool {
		if match := found.FindStringSubmatch(ts.ReadFile("up.err")); match != nil {
			if port = match[1]; match[2] == "true" {
				scheme = "https"
			}
		}
		return port != ""
	}) {
		ts.Fatalf("the server does not serve:\n%s", ts.ReadFile("up.err"))
	}
	ts.Setenv("PORT", port)
	ts.Setenv("URL", scheme+"://localhost:"+port)
	if !eventually(func() bool { _, status, err := get(ts, "/health/ready"); return err == nil && status == http.StatusOK }) {
		ts.Fatalf("the server is not ready:\n%s", ts.ReadFile("up.err"))
	}
}

// cmdBackground starts a command; what it prints is in NAME.out and NAME.err.
func cmdBackground(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "bg NAME ARG...")
	start(ts, args[0], args[1:])
}

func start(ts *testscript.TestScript, name string, args []string) {
	c := exec.Command("meshbox", args...)
	c.Dir = ts.MkAbs(".")
	c.Env = environment(ts)
	for suffix, stream := range map[string]*io.Writer{".out": &c.Stdout, ".err": &c.Stderr} {
		file, err := os.Create(ts.MkAbs(name + suffix))
		ts.Check(err)
		defer file.Close() // the process has its own
		*stream = file
	}
	ts.Check(c.Start())
	processes(ts)[name] = c
}

// environment is that of the script, as far as the program looks at it.
func environment(ts *testscript.TestScript) (all []string) {
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TERM", "NO_COLOR", "SCHEMA", "GORACE", "MESHBOX_LISTEN", "MESHBOX_DB", "MESHBOX_PUBLIC_URL"} {
		if value := ts.Getenv(name); value != "" {
			all = append(all, name+"="+value)
		}
	}
	return all
}

// cmdDown ends a process, the server if none is named, as a service manager
// does, and wants exit code 0.
func cmdDown(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 0, "down [NAME]")
	if err := end(ts, args, syscall.SIGTERM); err != nil {
		ts.Fatalf("it ended with %v", err)
	}
}

// cmdCrash ends a process, the server if none is named, without warning.
func cmdCrash(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 0, "crash [NAME]")
	if err := end(ts, args, syscall.SIGKILL); err == nil {
		ts.Fatalf("it ended well before it could be killed")
	}
}

// cmdPause stops a process as a closed laptop does; cmdResume lets it go on.
func cmdPause(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 1, "pause NAME")
	ts.Check(processes(ts)[args[0]].Process.Signal(syscall.SIGSTOP))
}

func cmdResume(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 1, "resume NAME")
	ts.Check(processes(ts)[args[0]].Process.Signal(syscall.SIGCONT))
}

func end(ts *testscript.TestScript, args []string, signal syscall.Signal) error {
	name := "up"
	if len(args) > 0 {
		name = args[0]
	}
	p, ok := processes(ts)[name]
	if !ok {
		ts.Fatalf("%s does not run", name)
	}
	delete(processes(ts), name)
	ts.Check(p.Process.Signal(signal))
	stuck := time.AfterFunc(patience, func() { p.Process.Kill() })
	defer stuck.Stop()
	return p.Wait()
}

// cmdAwait waits until a file matches a pattern.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "await FILE PATTERN")
	pattern := regexp.MustCompile(`(?m)` + args[1])
	if !eventually(func() bool { return pattern.MatchString(ts.ReadFile(args[0])) }) {
		ts.Fatalf("no match for %q in:\n%s", args[1], ts.ReadFile(args[0]))
	}
}

// cmdFails wants the program to fail as every failure should: with that exit
// code, nothing on standard output and one sentence on standard error.
func cmdFails(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 1, "fails CODE ARG...")
	err := ts.Exec("meshbox", args[1:]...)
	failed, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		ts.Fatalf("it did not fail: %v", err)
	}
	if got := strconv.Itoa(failed.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
	said := ts.ReadFile("stderr")
	if !strings.HasPrefix(said, "meshbox: ") || strings.Index(said, "\n") != len(said)-1 {
		ts.Fatalf("standard error is not one sentence")
	}
	if ts.ReadFile("stdout") != "" {
		ts.Fatalf("there is standard output")
	}
}

// at returns the value at a path such as 0.name in a JSON text, whose first
// value counts; "." is all of it.
func at(ts *testscript.TestScript, file, path string) (value any) {
	ts.Check(json.NewDecoder(strings.NewReader(ts.ReadFile(file))).Decode(&value))
	for step := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '.' }) {
		switch inside := value.(type) {
		case map[string]any:
			value = inside[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(inside) {
				ts.Fatalf("%s: there is no %q among %d", path, step, len(inside))
			}
			value = inside[i]
		default:
			ts.Fatalf("%s: there is nothing inside of %v", path, value)
		}
	}
	return value
}

// cmdField sets a variable to a value in a JSON file.
func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 3, "field VARIABLE FILE PATH")
	value := at(ts, args[1], args[2])
	text, ok := value.(string)
	if !ok {
		encoded, err := json.Marshal(value)
		ts.Check(err)
		text = string(encoded)
	}
	ts.Setenv(args[0], text)
}

// cmdKeys wants an object in a JSON file to have exactly these keys.
func cmdKeys(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 3, "keys FILE PATH KEY...")
	object, ok := at(ts, args[0], args[1]).(map[string]any)
	if !ok {
		ts.Fatalf("%s is no object", args[1])
	}
	want := slices.Sorted(slices.Values(args[2:]))
	if got := slices.Sorted(maps.Keys(object)); !slices.Equal(got, want) {
		ts.Fatalf("keys %v, want %v", got, want)
	}
}

// cmdIs wants two texts to be the same.
func cmdIs(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] is TEXT TEXT")
	}
	if neg == (args[0] == args[1]) {
		ts.Fatalf("%q and %q", args[0], args[1])
	}
}

// cmdLink sets a variable to the first full link in a file.
func cmdLink(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "link VARIABLE FILE")
	link := regexp.MustCompile(`https?://\S+/join/\S+`).FindString(ts.ReadFile(args[1]))
	if link == "" {
		ts.Fatalf("there is no link in:\n%s", ts.ReadFile(args[1]))
	}
	ts.Setenv(args[0], link)
}

// cmdWrite makes a file of a text with Go's escapes, COUNT times.
func cmdWrite(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "write FILE TEXT [COUNT]")
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	if len(args) > 2 {
		count, err := strconv.Atoi(args[2])
		ts.Check(err)
		text = strings.Repeat(text, count)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// cmdFlood sends as many messages to #general, by one connection.
func cmdFlood(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "flood CONFIG COUNT")
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	flags := clientFlags{config: ts.MkAbs(args[0])}
	c, err := flags.connect(context.Background())
	ts.Check(err)
	defer c.Close()
	for i := range count {
		ack, err := c.SendText(context.Background(), "#general", fmt.Sprintf("message %d", i+1))
		ts.Check(err)
		if !ack.Queued {
			ts.Fatalf("refused: %s", ack.Error)
		}
	}
}

// cmdPresent waits until somebody sees that many peers.
func cmdPresent(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "present CONFIG COUNT")
	var out []byte
	if !eventually(func() bool {
		c := exec.Command("meshbox", "peers", "--json", "--config", args[0])
		c.Dir, c.Env = ts.MkAbs("."), environment(ts)
		out, _ = c.Output()
		return strconv.Itoa(bytes.Count(out, []byte(`"displayName"`))) == args[1]
	}) {
		ts.Fatalf("%s does not see %s peers:\n%s", args[0], args[1], out)
	}
}

// cmdMode wants files to have a mode.
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "mode OCTAL FILE...")
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := "0" + strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

// cmdPoke overwrites bytes of a file.
func cmdPoke(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 3, "poke FILE OFFSET HEX")
	offset, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	patch, err := hex.DecodeString(args[2])
	ts.Check(err)
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	_, err = file.WriteAt(patch, offset)
	ts.Check(errors.Join(err, file.Close()))
}

// cmdTruncate cuts a file off.
func cmdTruncate(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "truncate FILE SIZE")
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

// cmdGlob wants so many files to match a pattern, and sets a variable to the name
// of the first.
func cmdGlob(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "glob COUNT PATTERN [VARIABLE]")
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if strconv.Itoa(len(found)) != args[0] {
		ts.Fatalf("there are %d: %q", len(found), found)
	}
	if len(args) > 2 {
		ts.Setenv(args[2], found[0])
	}
}

// cmdSQL changes a data file as somebody with a database tool would.
func cmdSQL(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "sql FILE STATEMENT")
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(args[1])
	ts.Check(errors.Join(err, db.Close()))
}

// cmdGet asks the server and keeps the body in a file.
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2, "get PATH FILE")
	body, status, err := get(ts, args[0])
	ts.Check(err)
	if status != http.StatusOK {
		ts.Fatalf("status %d:\n%s", status, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o600))
}

func get(ts *testscript.TestScript, path string) (body []byte, status int, err error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Get(ts.Getenv("URL") + path)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return body, response.StatusCode, err
}

// cmdREST asks an endpoint below /api/v1 with the API key in a file, wants a status,
// and leaves the answer in rest.json.
func cmdREST(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 5, "rest KEYFILE METHOD PATH BODY STATUS")
	request, err := http.NewRequest(args[1], ts.Getenv("URL")+"/api/v1"+args[2], strings.NewReader(args[3]))
	ts.Check(err)
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[0])))
	client := http.Client{Timeout: patience}
	response, err := client.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	if strconv.Itoa(response.StatusCode) != args[4] {
		ts.Fatalf("status %d:\n%s", response.StatusCode, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs("rest.json"), body, 0o600))
}

// cmdHook posts a file to the address in another one, perhaps as an event of GitHub,
// wants a status, and leaves the answer in hook.json.
func cmdHook(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 4, "hook URLFILE BODYFILE CONTENT-TYPE STATUS [EVENT]")
	request, err := http.NewRequest(http.MethodPost, strings.TrimSpace(ts.ReadFile(args[0])), strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	request.Header.Set("Content-Type", args[2])
	if len(args) > 4 {
		request.Header.Set("X-GitHub-Event", args[4])
	}
	client := http.Client{Timeout: patience}
	response, err := client.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	if strconv.Itoa(response.StatusCode) != args[3] {
		ts.Fatalf("status %d:\n%s", response.StatusCode, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs("hook.json"), body, 0o600))
}

func cmdSleep(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 1, "sleep DURATION")
	pause, err := time.ParseDuration(args[0])
	ts.Check(err)
	time.Sleep(pause)
}
