package clients

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// What was put into a client's settings is what is found there.
func TestConfiguredIsWhatWasAdded(t *testing.T) {
	for _, name := range Names() {
		s := System{Home: t.TempDir(), Getenv: func(string) string { return "" }, LookPath: func(string) (string, error) { return "", os.ErrNotExist }}
		if found, err := s.Configured(name); found != nil || err != nil {
			t.Errorf("%s: %v, %v before", name, found, err)
		}
		want := Entry{Command: "/opt/my box/meshbox", Args: []string{"mcp", "--config", "/home/ada"}}
		change, err := s.Add(name, want)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		if found, err := s.Configured(name); err != nil || !reflect.DeepEqual(found, &want) {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		if err := os.WriteFile(change.Path, []byte("{ = broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := s.Configured(name); err == nil {
			t.Errorf("%s: %+v in a broken file", name, found)
		}
	}
	s := System{Home: t.TempDir(), Getenv: func(string) string { return "" }}
	if _, err := s.Configured("emacs"); err == nil {
		t.Error("emacs is known")
	}
	if got := s.ConfiguredHooks("claude"); got != nil {
		t.Errorf("hooks %q before", got)
	}
	hooks := s.AddHooks("claude", "'/opt/my box/meshbox'"+HookArgs("claude")+" --config /home/ada")
	if err := os.MkdirAll(filepath.Dir(hooks.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hooks.Path, hooks.After, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.ConfiguredHooks("claude"); !reflect.DeepEqual(got, []string{"/opt/my box/meshbox"}) {
		t.Errorf("hooks %q", got)
	}
}
