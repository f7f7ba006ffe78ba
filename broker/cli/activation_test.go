//go:build unix

package cli

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// activated starts the program as a service manager does that has opened a socket for
// it, by a shell that knows the process id, and returns what it logs.
func activated(t *testing.T, socket net.Listener, environment string, args ...string) (log string) {
	t.Helper()
	file, err := socket.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	program, err := os.Executable() // see TestMain
	if err != nil {
		t.Fatal(err)
	}
	schema, err := filepath.Abs(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	link := filepath.Join(folder, "meshbox")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	command := exec.Command("sh", append([]string{"-c", environment + ` exec "$0" "$@"`, link}, args...)...)
	command.Dir, command.Env = folder, append(os.Environ(), "SCHEMA="+schema, "HOME="+folder)
	command.ExtraFiles, command.Stderr = []*os.File{file}, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	return said.Name()
}

const asSystemd = `LISTEN_PID=$$ LISTEN_FDS=1`

func ready(address string) bool {
	client := http.Client{Timeout: time.Second}
	response, err := client.Get("http://" + address + "/health/ready")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Outcome: the program serves on the socket it was handed, whatever --listen says.
func TestSocketOfAServiceManager(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	log := activated(t, socket, asSystemd, "--listen", "203.0.113.7:1") // not an address of this machine
	if !eventually(func() bool { return ready(socket.Addr().String()) }) {
		said, _ := os.ReadFile(log)
		t.Fatalf("it does not serve:\n%s", said)
	}
}

// Outcome: a socket that was meant for another process is left alone.
func TestSocketOfAnotherProcess(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	log := activated(t, socket, `LISTEN_PID=1 LISTEN_FDS=1`, "--listen", "127.0.0.1:0")
	if !eventually(func() bool {
		said, _ := os.ReadFile(log)
		return strings.Contains(string(said), `"msg":"serving"`) && !strings.Contains(string(said), socket.Addr().String())
	}) {
		t.Error("it serves there")
	}
}

// Outcome: a socket that is none of TCP is refused with what the unit needs.
func TestSocketOfAnotherKind(t *testing.T) {
	socket, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	log := activated(t, socket, asSystemd)
	if !eventually(func() bool {
		said, _ := os.ReadFile(log)
		return strings.Contains(string(said), "meshbox: socket 1 of the service manager cannot be used; the unit needs ListenStream=ADDRESS:PORT")
	}) {
		said, _ := os.ReadFile(log)
		t.Errorf("it said:\n%s", said)
	}
}

// Outcome: the same with systemd's own program for it, where there is one.
func TestSystemdSocketActivate(t *testing.T) {
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Skip("systemd-socket-activate was not found (Debian: apt-get install systemd); the same is tested without it")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	folder := t.TempDir()
	program, _ := os.Executable()
	link := filepath.Join(folder, "meshbox")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	schema, _ := filepath.Abs(schemaPath)
	command := exec.Command(tool, "--listen", address, "--setenv", "SCHEMA="+schema, "--setenv", "HOME="+folder, link, "--db", filepath.Join(folder, "meshbox.db"))
	said, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	command.Stderr = said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	if !eventually(func() bool { return ready(address) }) { // the first connection starts it
		text, _ := os.ReadFile(said.Name())
		t.Fatalf("it does not serve:\n%s", text)
	}
}
