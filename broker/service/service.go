package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// Name is what the unit is called.
	Name = "meshbox.service"
	// StateFolder is where the system unit keeps its data: StateDirectory= of the unit.
	StateFolder = "/var/lib/meshbox"

	systemUnit = "/etc/systemd/system/" + Name
)

// Manager is systemd: the one of the machine, or that of a user.
type Manager struct {
	System bool
	Path   string // where the unit is

	OS       string // runtime.GOOS
	LookPath func(string) (string, error)
	Run      func(ctx context.Context, name string, args ...string) (string, error) // what it printed on both outputs
}

// NewManager returns the manager of the machine or of this user.
func NewManager(system bool, goos string) (*Manager, error) {
	m := &Manager{System: system, Path: systemUnit, OS: goos, LookPath: exec.LookPath, Run: run}
	if system {
		return m, nil
	}
	config, err := os.UserConfigDir()
	m.Path = filepath.Join(config, "systemd", "user", Name)
	return m, err
}

const runTime = time.Minute // what systemctl may take: a stop waits for connections to end

func run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	output, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(output), err
}

// elsewhere says what does the same on other systems.
var elsewhere = map[string]string{
	"darwin":  `on macOS write a launchd agent, ~/Library/LaunchAgents/meshbox.plist, that runs "meshbox serve --db FILE" with KeepAlive`,
	"windows": `on Windows make a task in the Task Scheduler that runs "meshbox serve --db FILE" at log-on`,
}

// Check says, in a sentence, why there can be no service here.
func (m *Manager) Check(ctx context.Context) error {
	if m.OS != "linux" {
		hint := elsewhere[m.OS]
		if hint == "" {
			hint = `have your system start "meshbox serve --db FILE"`
		}
		return fmt.Errorf("services are made for systemd on Linux only; %s", hint)
	}
	const instead = `have your service manager run "meshbox serve --db FILE", or use the container`
	if _, err := m.LookPath("systemctl"); err != nil {
		return fmt.Errorf("there is no systemctl, so this machine does not run systemd; %s", instead)
	}
	if said, err := m.systemctl(ctx, "show", "--property=Version"); err != nil {
		if m.System {
			return fmt.Errorf("systemd does not answer (%s); %s", oneLine(said, err), instead)
		}
		return fmt.Errorf("systemd of this user does not answer (%s); log in as the user itself, not by su or sudo, or install for the machine with: sudo meshbox service install --system", oneLine(said, err))
	}
	return nil
}

func oneLine(said string, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if line == "" {
		return err.Error()
	}
	return strings.TrimSuffix(line, ".")
}

// command is a systemctl command line for this manager.
func (m *Manager) command(args ...string) []string {
	if !m.System {
		args = append([]string{"--user"}, args...)
	}
	return append([]string{"systemctl"}, args...)
}

func (m *Manager) systemctl(ctx context.Context, args ...string) (string, error) {
	line := m.command(args...)
	return m.Run(ctx, line[0], line[1:]...)
}

// Installed is the unit as it is on disk.
type Installed struct {
	Text string
	Args []string // of ExecStart, the binary first
}

// ErrForeign is a unit of our name that somebody else wrote.
var ErrForeign = errors.New("somebody else wrote it; remove it yourself if you do not need it")

// Find returns our unit, nil if there is none, and ErrForeign in an error for another one.
func (m *Manager) Find() (*Installed, error) {
	text, err := os.ReadFile(m.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(text), mark) {
		return nil, fmt.Errorf("%s: %w", m.Path, ErrForeign)
	}
	found := &Installed{Text: string(text)}
	for line := range strings.Lines(found.Text) {
		if start, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "ExecStart="); ok {
			found.Args = words(start)
		}
	}
	return found, nil
}

// Flag returns the value that --name=value has in the unit's command line.
func (i *Installed) Flag(name string) string {
	for _, arg := range i.Args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}

// StartCommands are what is called once the unit is written. An active service is
// started anew: its unit may have changed.
func (m *Manager) StartCommands() [][]string {
	return [][]string{m.command("daemon-reload"), m.command("enable", Name), m.command("restart", Name)}
}

// StopCommand is what is called before the unit is removed.
func (m *Manager) StopCommand() []string { return m.command("disable", "--now", Name) }

// Install writes the unit and starts it. folder is made for the data of a user's
// service; systemd makes that of the machine's.
func (m *Manager) Install(ctx context.Context, unit, folder string) error {
	if _, err := m.Find(); err != nil {
		return err
	}
	if !m.System {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return fmt.Errorf("cannot make the folder of the data file: %w", err)
		}
	}
	if err := writeUnit(m.Path, unit); err != nil {
		return fmt.Errorf("cannot write the unit: %w%s", err, m.needsRoot(err))
	}
	for _, command := range m.StartCommands() {
		if said, err := m.Run(ctx, command[0], command[1:]...); err != nil {
			return fmt.Errorf("%s failed: %s; the unit is written, see what is wrong with: %s", strings.Join(command, " "), oneLine(said, err), m.Logs())
		}
	}
	return nil
}

// Uninstall stops the service and removes its unit. What is not ours stays.
func (m *Manager) Uninstall(ctx context.Context) error {
	found, err := m.Find()
	if err != nil || found == nil {
		return err
	}
	command := m.StopCommand()
	if said, err := m.Run(ctx, command[0], command[1:]...); err != nil {
		return fmt.Errorf("%s failed: %s; nothing was removed%s", strings.Join(command, " "), oneLine(said, err), m.asRoot())
	}
	if err := os.Remove(m.Path); err != nil {
		return fmt.Errorf("cannot remove the unit: %w%s", err, m.needsRoot(err))
	}
	if said, err := m.systemctl(ctx, "daemon-reload"); err != nil {
		return fmt.Errorf("the unit is removed, but systemctl daemon-reload failed: %s", oneLine(said, err))
	}
	return nil
}

func (m *Manager) needsRoot(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return m.asRoot()
	}
	return ""
}

func (m *Manager) asRoot() string {
	if m.System && os.Geteuid() != 0 {
		return "; run it with sudo"
	}
	return ""
}

// writeUnit replaces the file as a whole. Units are readable by all, as others are.
func writeUnit(path, unit string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".meshbox-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // after the rename there is none
	_, err = file.WriteString(unit)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// StartLine is what a person types to start the service.
func (m *Manager) StartLine() string {
	if m.System {
		return "sudo systemctl start meshbox"
	}
	return "systemctl --user start meshbox"
}

// Logs is the command that shows what the service says.
func (m *Manager) Logs() string {
	if m.System {
		return "sudo journalctl -u meshbox -e"
	}
	return "journalctl --user -u meshbox -e"
}

// State is what systemd knows of the service.
type State struct {
	Enabled string // as systemctl is-enabled says: enabled, disabled, …
	Active  string // as systemctl is-active says: active, inactive, failed, activating
	Since   string // when that began, as systemd writes it
}

// State asks systemd.
func (m *Manager) State(ctx context.Context) (State, error) {
	said, err := m.systemctl(ctx, "show", "--property=UnitFileState,ActiveState,StateChangeTimestamp", Name)
	if err != nil {
		return State{}, fmt.Errorf("systemd does not answer: %s", oneLine(said, err))
	}
	known := map[string]string{}
	for line := range strings.Lines(said) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		known[name] = value
	}
	return State{Enabled: known["UnitFileState"], Active: known["ActiveState"], Since: known["StateChangeTimestamp"]}, nil
}

// Lingers reports whether a user's services go on when the user has logged out.
func (m *Manager) Lingers(ctx context.Context) bool {
	said, err := m.Run(ctx, "loginctl", "show-user", "--property=Linger", "--value")
	return err == nil && strings.TrimSpace(said) == "yes"
}
