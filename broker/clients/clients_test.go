package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/tailscale/hujson"

	"meshbox/broker/wake"
)

var entry = Entry{Command: "/opt/mesh box/meshbox", Args: []string{"mcp", "--config", "/home/ada/.config/claude-2"}}

// machine is a system with an empty home, without the programs of clients.
func machine(t *testing.T) *System {
	t.Helper()
	return &System{
		Home: t.TempDir(), Getenv: func(string) string { return "" },
		LookPath: func(string) (string, error) { return "", errors.New("not there") },
		Run: func(_ context.Context, name string, _ ...string) (string, error) {
			t.Errorf("%s was run", name)
			return "", nil
		},
	}
}

// files are where clients keep what testdata has copies of.
var files = map[string]string{"claude": ".claude.json", "codex": ".codex/config.toml", "gemini": ".gemini/settings.json", "cursor": ".cursor/mcp.json"}

// furnish puts a copy of a client's file in its place.
func furnish(t *testing.T, s *System, client string) (path string, content []byte) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../testdata/clients", client+filepath.Ext(files[client])))
	if err != nil {
		t.Fatal(err)
	}
	return place(t, s, client, content), content
}

func place(t *testing.T, s *System, client string, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(s.Home, files[client])
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func adding(t *testing.T, s *System, client string) Change {
	t.Helper()
	c, err := s.Add(client, entry)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func apply(t *testing.T, s *System, c Change) {
	t.Helper()
	if err := s.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// read returns the settings of a file as values.
func values(t *testing.T, client string, content []byte) (all map[string]any) {
	t.Helper()
	err := toml.Unmarshal(content, &all)
	if client != "codex" {
		standard, failed := hujson.Standardize(bytes.Clone(content))
		if failed != nil {
			t.Fatal(failed)
		}
		err = json.Unmarshal(standard, &all)
	}
	if err != nil {
		t.Fatalf("%v in\n%s", err, content)
	}
	return all
}

func server(t *testing.T, client string, content []byte) map[string]any {
	t.Helper()
	key := serversKey
	if client == "codex" {
		key = "mcp_servers"
	}
	servers, _ := values(t, client, content)[key].(map[string]any)
	ours, _ := servers[ServerName].(map[string]any)
	return ours
}

func TestAddingKeepsWhatWasThereAndRemovingUndoesIt(t *testing.T) {
	for _, client := range Names() {
		t.Run(client, func(t *testing.T) {
			s := machine(t)
			path, before := furnish(t, s, client)
			c := adding(t, s, client)
			if c.Problem != nil || c.Path != path || c.IsNothing() || c.Then == "" || c.Snippet == "" {
				t.Fatalf("change = %+v", c)
			}
			apply(t, s, c)
			after := wantFile(t, path)
			ours := server(t, client, after)
			if ours["command"] != entry.Command || len(ours["args"].([]any)) != 3 {
				t.Errorf("our entry is %v in\n%s", ours, after)
			}
			// Every line of before is there, in its order, but for a comma.
			rest := lines(after)
			for _, line := range lines(before) {
				at := slices.IndexFunc(rest, func(l string) bool { return strings.ReplaceAll(l, ",", "") == strings.ReplaceAll(line, ",", "") })
				if at < 0 {
					t.Fatalf("the line %q is gone from\n%s", line, after)
				}
				rest = rest[at+1:]
			}
			if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
				t.Errorf("the mode became %v", info.Mode())
			}
			if backup := wantFile(t, path+BackupSuffix); !bytes.Equal(backup, before) {
				t.Errorf("the backup is\n%s", backup)
			}
			if again := adding(t, s, client); !again.IsNothing() {
				t.Errorf("adding it again would change\n%s", strings.Join(again.Lines(), "\n"))
			}
			undo, err := s.Remove(client)
			if err != nil {
				t.Fatal(err)
			}
			apply(t, s, undo)
			left := wantFile(t, path)
			if server(t, client, left) != nil || !sameValues(t, client, left, before) || strings.Count(string(left), "//") != strings.Count(string(before), "//") {
				t.Errorf("removing it leaves\n%s", left)
			}
			if nothing, _ := s.Remove(client); !nothing.IsNothing() {
				t.Error("what is not there would be removed")
			}
		})
	}
}

func sameValues(t *testing.T, client string, a, b []byte) bool {
	t.Helper()
	return sameJSON([]byte(encode(values(t, client, a))), values(t, client, b))
}

func wantFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestAddingMakesTheFileThatIsMissing(t *testing.T) {
	for _, client := range Names() {
		for name, content := range map[string][]byte{"none": nil, "empty": {}, "blank": []byte("\n")} {
			s := machine(t)
			path := filepath.Join(s.Home, files[client])
			if content != nil {
				place(t, s, client, content)
			}
			apply(t, s, adding(t, s, client))
			if ours := server(t, client, wantFile(t, path)); ours["command"] != entry.Command {
				t.Errorf("%s, %s: %v", client, name, ours)
			}
		}
	}
}

func TestBrokenFilesAreLeftAlone(t *testing.T) {
	for client, contents := range map[string][]string{
		"claude": {"{", "[]", `{"mcpServers": []}`, `{"mcpServers": {}} // no`, `{"a": 1,}`, `"text"`, "\x00"},
		"codex":  {"[", "a = ", "mcp_servers = { meshbox = { command = \"x\" } }\n", "[mcp_servers.docs]\ncommand = \"a\"\n[mcp_servers.docs]\n"},
		"gemini": {"{", `{"mcpServers": "x"}`, "/* never ends"},
		"cursor": {"{]", "null"},
	} {
		for _, content := range contents {
			s := machine(t)
			path := place(t, s, client, []byte(content))
			c := adding(t, s, client)
			if c.Problem == nil || !strings.Contains(c.Problem.Error(), path) || !strings.Contains(c.Snippet, entry.Command) {
				t.Errorf("%s %q: problem %v, snippet %s", client, content, c.Problem, c.Snippet)
			}
			if err := s.Apply(t.Context(), c); err == nil {
				t.Errorf("%s %q: it was changed", client, content)
			}
			if left := wantFile(t, path); string(left) != content {
				t.Errorf("%s %q became %q", client, content, left)
			}
		}
	}
}

func TestWhatSomebodyElseWroteMeanwhileStays(t *testing.T) {
	s := machine(t)
	path, _ := furnish(t, s, "cursor")
	c := adding(t, s, "cursor")
	place(t, s, "cursor", []byte(`{"written": "by Cursor"}`))
	if err := s.Apply(t.Context(), c); err == nil || !strings.Contains(err.Error(), "changed by somebody else") {
		t.Error(err)
	}
	if left := wantFile(t, path); !strings.Contains(string(left), "by Cursor") {
		t.Errorf("it became %s", left)
	}
}

func TestLinksStayLinks(t *testing.T) {
	s := machine(t)
	path, _ := furnish(t, s, "gemini")
	dotfiles := filepath.Join(s.Home, "dotfiles.json")
	if err := errors.Join(os.Rename(path, dotfiles), os.Symlink(dotfiles, path)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, adding(t, s, "gemini"))
	if target, err := os.Readlink(path); err != nil || target != dotfiles || server(t, "gemini", wantFile(t, dotfiles)) == nil {
		t.Errorf("%s, %v", target, err)
	}
}

// A change replaces what an older meshbox, or one elsewhere, had put there.
func TestAnOldEntryIsReplaced(t *testing.T) {
	for _, client := range Names() {
		s := machine(t)
		path, _ := furnish(t, s, client)
		old, err := s.Add(client, Entry{Command: "/old/meshbox", Args: []string{"mcp"}})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, s, old)
		apply(t, s, adding(t, s, client))
		if text := string(wantFile(t, path)); strings.Contains(text, "/old/") || strings.Count(text, "meshbox\"") != strings.Count(text, "mesh box/meshbox\"")+strings.Count(text, "\"meshbox\"") {
			t.Errorf("%s:\n%s", client, text)
		}
	}
}

func TestClaudesOwnProgramDoesIt(t *testing.T) {
	s := machine(t)
	path, before := furnish(t, s, "claude")
	s.LookPath = func(name string) (string, error) {
		if name == "claude" {
			return "/bin/claude", nil
		}
		return "", errors.New("not there")
	}
	var ran []string
	s.Run = func(_ context.Context, name string, args ...string) (string, error) {
		ran = append(ran, name+" "+strings.Join(args, " "))
		return "", nil
	}
	apply(t, s, adding(t, s, "claude"))
	want := []string{`/bin/claude mcp add-json --scope user meshbox {"args":["mcp","--config","/home/ada/.config/claude-2"],"command":"/opt/mesh box/meshbox","env":{},"type":"stdio"}`}
	if !slices.Equal(ran, want) {
		t.Errorf("ran %q", ran)
	}
	if left := wantFile(t, path); !bytes.Equal(left, before) {
		t.Error("the file was written as well")
	}
	s.Run = func(context.Context, string, ...string) (string, error) {
		return "no such scope\n", errors.New("exit status 1")
	}
	if err := s.Apply(t.Context(), adding(t, s, "claude")); err == nil || !strings.Contains(err.Error(), "no such scope") {
		t.Error(err)
	}
}

// A file that Codex does not take would stop all of Codex: it is put back.
func TestWhatCodexDoesNotTakeIsPutBack(t *testing.T) {
	for _, exists := range []bool{true, false} {
		s := machine(t)
		path := filepath.Join(s.Home, files["codex"])
		var before []byte
		if exists {
			_, before = furnish(t, s, "codex")
		}
		s.LookPath = func(name string) (string, error) { return "/bin/" + name, nil }
		s.Run = func(context.Context, string, ...string) (string, error) {
			return "failed to load", errors.New("exit status 1")
		}
		if err := s.Apply(t.Context(), adding(t, s, "codex")); err == nil || !strings.Contains(err.Error(), "failed to load") {
			t.Error(err)
		}
		left, err := os.ReadFile(path)
		if exists && !bytes.Equal(left, before) || !exists && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q, %v", left, err)
		}
	}
}

func TestInstalledClientsAreFound(t *testing.T) {
	s := machine(t)
	if found := s.Installed(); found != nil {
		t.Errorf("found %v in an empty home", found)
	}
	furnish(t, s, "gemini")
	s.Getenv = func(name string) string { return map[string]string{"CODEX_HOME": s.Home}[name] }
	s.LookPath = func(name string) (string, error) {
		if name == "claude" {
			return "/bin/claude", nil
		}
		return "", errors.New("not there")
	}
	if found := s.Installed(); !slices.Equal(found, []string{"claude", "codex", "gemini"}) {
		t.Errorf("found %v", found)
	}
	if _, err := s.Add("emacs", entry); err == nil || !strings.Contains(err.Error(), "claude, codex, gemini, cursor") {
		t.Error(err)
	}
}

func TestLinesShowWhatChanges(t *testing.T) {
	s := machine(t)
	furnish(t, s, "gemini")
	c := adding(t, s, "gemini")
	shown := strings.Join(c.Lines(), "\n")
	for _, want := range []string{`+     "meshbox": {`, `+       "command": "/opt/mesh box/meshbox"`, `    "general": {`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in\n%s", want, shown)
		}
	}
	if strings.Contains(shown, "preferredEditor") {
		t.Errorf("too much is shown:\n%s", shown)
	}
}

// What a person added to our entry, or wrote around it, stays.
func TestAPersonsOwnLinesStay(t *testing.T) {
	s := machine(t)
	path := place(t, s, "codex", []byte("[mcp_servers.meshbox]\n# mine\ncommand = \"/old/meshbox\"\nargs = [\"mcp\"]\nstartup_timeout_sec = 30\n\n[mcp_servers.meshbox.env]\nA = \"b\"\n\n# IMPORTANT: of the next one\n[mcp_servers.other]\ncommand = \"x\"\n"))
	apply(t, s, adding(t, s, "codex"))
	text := string(wantFile(t, path))
	for _, want := range []string{"# mine", "startup_timeout_sec = 30", "A = \"b\"", "/opt/mesh box/meshbox", "# IMPORTANT"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is gone from\n%s", want, text)
		}
	}
	undo, _ := s.Remove("codex")
	apply(t, s, undo)
	if left := string(wantFile(t, path)); left != "\n# IMPORTANT: of the next one\n[mcp_servers.other]\ncommand = \"x\"\n" {
		t.Errorf("removing it leaves %q", left)
	}
	// Lines that only look like ours are those of a text.
	tricky := "notes = \"\"\"\n[mcp_servers.meshbox]\nsee above\n\"\"\"\n"
	place(t, s, "codex", []byte(tricky+"[mcp_servers]\nmeshbox = { command = \"x\" }\n"))
	if c, _ := s.Remove("codex"); c.Problem == nil || !c.Mentions() {
		t.Errorf("it would become\n%s", c.After)
	}
	for client, content := range map[string]string{
		"gemini": "{\n  \"mcpServers\": {\n    \"a\": {}, // keep a\n    \"meshbox\": {\"command\": \"/old\", \"trust\": true},\n    // keep b\n    \"b\": {}\n  }\n}\n",
	} {
		path := place(t, s, client, []byte(content))
		apply(t, s, adding(t, s, client))
		if ours := server(t, client, wantFile(t, path)); ours["trust"] != true || ours["command"] != entry.Command {
			t.Errorf("our entry is %v", ours)
		}
		undo, _ := s.Remove(client)
		apply(t, s, undo)
		if left := string(wantFile(t, path)); !strings.Contains(left, "// keep a") || !strings.Contains(left, "// keep b") {
			t.Errorf("removing it leaves\n%s", left)
		}
	}
	// Of a group of hooks only our handler goes, and only what is ours.
	settings := filepath.Join(s.Home, ".claude", "settings.json")
	s.Own = "/x/mb"
	mixed := `{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}, {"type": "command", "command": "rtk hook claude"}, {"type": "command", "command": "/x/mb hook claude"}]}, {"hooks": [{"type": "command", "command": "/home/x/meshbox-fork/other hook claude-x"}]}]}}`
	if err := errors.Join(os.MkdirAll(filepath.Dir(settings), 0o755), os.WriteFile(settings, []byte(mixed), 0o600)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, s.RemoveHooks("claude"))
	if left := string(wantFile(t, settings)); !strings.Contains(left, "say done") || !strings.Contains(left, "rtk hook claude") || !strings.Contains(left, "hook claude-x") || strings.Contains(left, "/x/mb") {
		t.Errorf("removing hooks leaves %s", left)
	}
}

func FuzzDocument(f *testing.F) {
	for _, client := range []string{"claude", "gemini", "cursor"} {
		content, err := os.ReadFile(filepath.Join("../../testdata/clients", client+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte(`{"mcpServers":{"a":{} /* x */}}`))
	f.Add([]byte("{\"mcpServers\": {\n}, // end\n}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		d, err := parse(content, false)
		if err != nil || d.put(map[string]any{"command": "x"}, serversKey, ServerName) != nil {
			return
		}
		again, err := parse(d.bytes(), false)
		if err != nil || again.get(serversKey, ServerName, "command") == nil {
			t.Fatalf("%q became %q: %v", content, d.bytes(), err)
		}
		again.remove(serversKey, ServerName)
		if last, err := parse(again.bytes(), false); err != nil || last.get(serversKey, ServerName) != nil {
			t.Fatalf("%q, then %q: %v", content, again.bytes(), err)
		}
	})
}

// foreign are files of hooks that others have put there.
var foreign = map[string]string{
	"claude": "{\n  \"model\": \"opus\",\n  \"hooks\": {\n    \"Stop\": [\n      {\n        \"hooks\": [{\"type\": \"command\", \"command\": \"say done\"}]\n      }\n    ]\n  }\n}\n",
	"codex":  "{\"description\": \"mine\", \"hooks\": {\"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"say done\"}]}]}}\n",
	"gemini": "{\n\t// dear to me\n\t\"theme\": \"x\",\n\t\"hooks\": {\"AfterAgent\": [{\"matcher\": \"*\", \"hooks\": [{\"type\": \"command\", \"command\": \"say done\"}]}]}\n}\n",
	"cursor": "{\"version\": 1, \"hooks\": {\"stop\": [{\"command\": \"say done\"}]}}\n",
}

func TestHooksAreAddedOnceAndRemoved(t *testing.T) {
	for client, h := range allHooks {
		t.Run(client, func(t *testing.T) {
			s := machine(t)
			path, before := h.path(s), []byte(foreign[client])
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, before, 0o600)); err != nil {
				t.Fatal(err)
			}
			apply(t, s, s.AddHooks(client, "'/opt/mesh box/meshbox'"+HookArgs(client)))
			apply(t, s, s.AddHooks(client, "'/opt/mesh box/meshbox'"+HookArgs(client)))
			text := string(wantFile(t, path))
			if strings.Count(text, `'/opt/mesh box/meshbox' hook `+client) != len(h.events) || !strings.Contains(text, "say done") {
				t.Errorf("the hooks are\n%s", text)
			}
			if kept := wantFile(t, path+BackupSuffix); !bytes.Equal(kept, before) {
				t.Errorf("what was there is kept as\n%s", kept)
			}
			apply(t, s, s.AddHooks(client, "/opt/meshbox"+HookArgs(client)+" --config /home/ada/other"))
			text = string(wantFile(t, path))
			if strings.Count(text, "/opt/meshbox hook "+client+" --config /home/ada/other") != len(h.events) || strings.Contains(text, "mesh box") {
				t.Errorf("the hooks are\n%s", text)
			}
			apply(t, s, s.RemoveHooks(client))
			if left := wantFile(t, path); !sameValues(t, "claude", left, before) {
				t.Errorf("removing them leaves\n%s", left)
			}
			if c := s.RemoveHooks(client); !c.IsNothing() {
				t.Error("what is not there would be removed")
			}
			if err := os.WriteFile(path, []byte("{\"hooks\": {\""+h.events[0]+"\": {}}}"), 0o600); err != nil {
				t.Fatal(err)
			}
			if c := s.AddHooks(client, "/opt/meshbox"+HookArgs(client)); c.Problem == nil || c.Snippet == "" {
				t.Errorf("change = %+v", c)
			}
		})
	}
}

// A file that is missing is made, and says what its client wants of one.
func TestHooksMakeTheFileThatIsMissing(t *testing.T) {
	for client, h := range allHooks {
		s := machine(t)
		apply(t, s, s.AddHooks(client, "/opt/meshbox"+HookArgs(client)))
		said := values(t, "claude", wantFile(t, h.path(s)))
		if events, _ := said["hooks"].(map[string]any); len(events) != len(h.events) || (client == "cursor") != (said["version"] == 1.0) {
			t.Errorf("%s has %v", client, said)
		}
	}
}

// Codex warns of hooks in two places.
func TestCodexHooksStayInOnePlace(t *testing.T) {
	for config, refused := range map[string]bool{
		"[hooks.state.\"/x:stop:0:0\"]\ntrusted_hash = \"y\"\n":                       false,
		"[[hooks.Stop]]\n[[hooks.Stop.hooks]]\ntype = \"command\"\ncommand = \"x\"\n": true,
	} {
		s := machine(t)
		place(t, s, "codex", []byte(config))
		c := s.AddHooks("codex", "/opt/meshbox"+HookArgs("codex"))
		if (c.Problem != nil) != refused || c.Snippet == "" {
			t.Errorf("%q: %v", config, c.Problem)
		}
		if !refused {
			continue
		}
		place(t, s, "codex", []byte(config+c.Snippet)) // as one is told
		if c := s.AddHooks("codex", "/opt/meshbox"+HookArgs("codex")); !c.IsNothing() {
			t.Errorf("after doing as told: %+v", c)
		}
	}
}

func TestHowAgentsHearOfMessages(t *testing.T) {
	s := machine(t)
	said := map[string]string{"claude --version": "2.1.330 (Claude Code)", "codex queue": "Usage: codex queue --thread ID"}
	s.Run = func(_ context.Context, name string, args ...string) (string, error) {
		output, ok := said[name+" "+args[0]]
		if !ok {
			return "", errors.New("unknown command")
		}
		return output, nil
	}
	wants := func(client string, want wake.Tier) {
		t.Helper()
		if got, err := s.Hearing(t.Context(), client); err != nil || got.Tier != want {
			t.Errorf("%s: %+v, %v; want %s", client, got, err, want)
		}
	}
	for _, client := range Names() {
		wants(client, wake.NextToolCall)
		apply(t, s, s.AddHooks(client, "/opt/meshbox"+HookArgs(client)))
		wants(client, wake.AtTurnEnd)
	}
	s.LookPath = func(name string) (string, error) { return name, nil }
	wants("claude", wake.Woken)
	wants("codex", wake.Woken)
	wants("gemini", wake.AtTurnEnd)
	said["claude --version"] = "2.1.99 (Claude Code)"
	said["codex queue"] = "Usage: codex [PROMPT]"
	wants("claude", wake.AtTurnEnd)
	wants("codex", wake.AtTurnEnd)
	// Hooks that are turned off tell nothing.
	for client, off := range map[string]string{"claude": `"disableAllHooks": true, `, "gemini": `"hooksConfig": {"enabled": false}, `} {
		path := allHooks[client].path(s)
		text := string(wantFile(t, path))
		if err := os.WriteFile(path, []byte("{"+off+strings.TrimPrefix(text, "{")), 0o600); err != nil {
			t.Fatal(err)
		}
		wants(client, wake.NextToolCall)
	}
}

// Hooks of a binary in a strange place are known again, others have theirs.
func TestWhoseHooksTheyAre(t *testing.T) {
	s := &System{Own: "/opt/mb"}
	for command, ours := range map[string]bool{
		"meshbox hook claude": true, `'/home/o'\''brien/meshbox' hook cursor --config '/home/o'\''brien/x y'`: true,
		`'C:\Program Files\meshbox.exe' hook codex`: true, "/opt/mb hook gemini --config /x": true, "/opt/meshbox-v2 hook codex": true,
		"rtk hook claude": false, "claudemesh hook claude": false, "meshbox hook emacs": false, "meshbox mcp": false, "meshbox hook claude | tee x": false,
		"meshbox hook claude --config": false, "'meshbox hook claude": false, "": false,
	} {
		if got := s.isOurs(command); got != ours {
			t.Errorf("%q is ours: %t", command, got)
		}
	}
}

// A person's comments stay, hooks keep their place, and what a comment stands at is
// known again.
func TestHooksLeaveCommentsAndPlaces(t *testing.T) {
	s := machine(t)
	path := allHooks["cursor"].path(s)
	before := "{\"version\": 1, \"hooks\": {\"stop\": [\n  // mine\n  {\"command\": \"say done\"}, // theirs\n]}}\n"
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(before), 0o600)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, s.AddHooks("cursor", "/opt/meshbox hook cursor"))
	text := strings.Replace(string(wantFile(t, path)), `{"command": "say done"}`, `{"command": "say done"}, {"command": "say last"}`, 1)
	text = strings.ReplaceAll(text, `"command": "/opt/meshbox`, "// KEEP ME\n\"command\": \"/opt/meshbox")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		apply(t, s, s.AddHooks("cursor", "/new/meshbox hook cursor --config /x"))
	}
	text = string(wantFile(t, path))
	if strings.Count(text, "meshbox hook cursor") != len(allHooks["cursor"].events) || strings.Contains(text, "/opt/") {
		t.Errorf("the hooks are\n%s", text)
	}
	apply(t, s, s.RemoveHooks("cursor"))
	text = string(wantFile(t, path))
	if !strings.Contains(text, "// mine") || !strings.Contains(text, "// theirs") || strings.Contains(text, "meshbox") {
		t.Errorf("left is\n%s", text)
	}
	// Codex knows by their place which hooks are trusted.
	path = allHooks["codex"].path(s)
	first := `{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "/opt/meshbox hook codex"}]}, {"hooks": [{"type": "command", "command": "say done"}]}]}}`
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(first), 0o600)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, s.AddHooks("codex", "/new/meshbox hook codex"))
	var config struct {
		Hooks map[string][]struct{ Hooks []struct{ Command string } }
	}
	if err := json.Unmarshal(wantFile(t, path), &config); err != nil || config.Hooks["Stop"][0].Hooks[0].Command != "/new/meshbox hook codex" || config.Hooks["Stop"][1].Hooks[0].Command != "say done" {
		t.Errorf("%v, %+v", err, config)
	}
}
