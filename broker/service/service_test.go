package service

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fake is a systemd that notes how it was called.
type fake struct {
	calls []string
	fail  string // beginning of the call that fails
}

func (f *fake) run(_ context.Context, name string, args ...string) (string, error) {
	call := strings.Join(append([]string{name}, args...), " ")
	f.calls = append(f.calls, call)
	if f.fail != "" && strings.Contains(call, f.fail) {
		return "Access denied.\nmore", errors.New("exit status 1")
	}
	return "", nil
}

func testManager(t *testing.T, system bool) (*Manager, *fake) {
	t.Helper()
	f := &fake{}
	return &Manager{System: system, Path: filepath.Join(t.TempDir(), "units", Name), OS: "linux", LookPath: func(string) (string, error) { return "/bin/systemctl", nil }, Run: f.run}, f
}

func TestUnitsOfMachineAndUser(t *testing.T) {
	system, _ := testManager(t, true)
	user, _ := testManager(t, false)
	p := Plan{Binary: "/usr/local/bin/meshbox", Args: []string{"serve", "--db=/var/lib/meshbox/meshbox.db"}, Folder: "/home/ada/100% mine"}
	low := p
	low.Low = true
	for name, test := range map[string]struct {
		unit     string
		has, not []string
	}{
		"system": {system.Unit(p), []string{"DynamicUser=yes", "StateDirectory=meshbox", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "WantedBy=multi-user.target",
			"ExecStart=/usr/local/bin/meshbox serve --db=/var/lib/meshbox/meshbox.db\n"}, []string{"AmbientCapabilities", "100%"}},
		"low port": {system.Unit(low), []string{"AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"}, []string{"CapabilityBoundingSet=\n"}},
		// What a user's manager has no right to is left out: the unit would not start.
		"user": {user.Unit(p), []string{"WorkingDirectory=/home/ada/100%% mine\n", "NoNewPrivileges=yes", "SystemCallFilter=@system-service", "WantedBy=default.target"},
			[]string{"DynamicUser", "ProtectSystem", "PrivateTmp", "CapabilityBoundingSet", "network-online"}},
	} {
		if !strings.HasPrefix(test.unit, mark+"[Unit]\n") {
			t.Errorf("%s: it does not begin with our mark:\n%s", name, test.unit)
		}
		for _, line := range test.has {
			if !strings.Contains(test.unit, line) {
				t.Errorf("%s: %q is missing in\n%s", name, line, test.unit)
			}
		}
		for _, line := range test.not {
			if strings.Contains(test.unit, line) {
				t.Errorf("%s: %q is in\n%s", name, line, test.unit)
			}
		}
		if strings.Contains(test.unit, "\n\n\n") || strings.Contains(test.unit, "\n \n") {
			t.Errorf("%s: empty lines in\n%s", name, test.unit)
		}
	}
}

func TestWordsOfACommandLine(t *testing.T) {
	for text, want := range map[string]string{
		"/usr/bin/meshbox": "/usr/bin/meshbox", "--db=/a b/c": `"--db=/a b/c"`, "50%": `"50%%"`, "$HOME": `"$$HOME"`, `a"b\c`: `"a\"b\\c"`, "": `""`, "it's": `"it's"`, "a\nb\tc": `"a\nb\tc"`,
	} {
		if got := word(text); got != want {
			t.Errorf("%q is written %s, want %s", text, got, want)
		}
		if got := words(word(text) + " " + word("next")); !slices.Equal(got, []string{text, "next"}) {
			t.Errorf("%q is read back as %q", text, got)
		}
	}
}

func TestInstallAndUninstall(t *testing.T) {
	m, systemd := testManager(t, false)
	data := filepath.Join(t.TempDir(), "data")
	if found, err := m.Find(); found != nil || err != nil {
		t.Fatalf("found %v, %v before there is a unit", found, err)
	}
	if err := m.Uninstall(t.Context()); err != nil || len(systemd.calls) > 0 {
		t.Fatalf("nothing to uninstall: %v, %v", err, systemd.calls)
	}
	unit := m.Unit(Plan{Binary: "/opt/my box/meshbox", Args: []string{"serve", "--db=" + data + "/meshbox.db"}, Folder: data})
	if err := m.Install(t.Context(), unit, data); err != nil {
		t.Fatal(err)
	}
	if want := []string{"systemctl --user daemon-reload", "systemctl --user enable meshbox.service", "systemctl --user restart meshbox.service"}; !slices.Equal(systemd.calls, want) {
		t.Errorf("calls %q, want %q", systemd.calls, want)
	}
	if info, err := os.Stat(data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the data: %v, %v", info, err)
	}
	found, err := m.Find()
	if err != nil || found.Text != unit || found.Args[0] != "/opt/my box/meshbox" || found.Flag("db") != data+"/meshbox.db" || found.Flag("listen") != "" {
		t.Fatalf("found %+v, %v", found, err)
	}
	systemd.fail = "disable"
	if err := m.Uninstall(t.Context()); err == nil || !strings.Contains(err.Error(), "Access denied; nothing was removed") {
		t.Errorf("a stop that failed: %v", err)
	}
	systemd.fail = ""
	if err := m.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := m.Find(); found != nil || err != nil {
		t.Errorf("afterwards: %v, %v", found, err)
	}
	if _, err := os.Stat(data); err != nil {
		t.Errorf("the data is gone: %v", err)
	}
}

func TestForeignUnitsAreLeftAlone(t *testing.T) {
	m, systemd := testManager(t, true)
	const foreign = "[Service]\nExecStart=/usr/bin/meshbox\n"
	if err := os.MkdirAll(filepath.Dir(m.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.Path, []byte(foreign), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"install": m.Install(t.Context(), m.Unit(Plan{Binary: "/m"}), "/d"), "uninstall": m.Uninstall(t.Context())} {
		if !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if text, _ := os.ReadFile(m.Path); string(text) != foreign || len(systemd.calls) > 0 {
		t.Errorf("the unit is %q, calls %q", text, systemd.calls)
	}
}

func TestWhereThereCanBeNoService(t *testing.T) {
	for system, hint := range map[string]string{"darwin": "launchd", "windows": "Task Scheduler", "plan9": "meshbox serve"} {
		m, _ := testManager(t, false)
		m.OS = system
		if err := m.Check(t.Context()); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v", system, err)
		}
	}
	m, systemd := testManager(t, false)
	if err := m.Check(t.Context()); err != nil {
		t.Errorf("with systemd: %v", err)
	}
	systemd.fail = "show"
	if err := m.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "systemd of this user does not answer (Access denied); ") {
		t.Errorf("no manager of the user: %v", err)
	}
	m.LookPath = func(string) (string, error) { return "", os.ErrNotExist }
	if err := m.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "there is no systemctl") {
		t.Errorf("no systemctl: %v", err)
	}
}
