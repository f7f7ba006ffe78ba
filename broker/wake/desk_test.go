package wake

import (
	"os"
	"path/filepath"
	"testing"
)

func newDesk(t *testing.T, folder string, a Agent) *Desk {
	t.Helper()
	d, err := NewDesk(folder, a)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestANoteIsTakenOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "agents")
	d := newDesk(t, folder, Agent{Client: "gemini", Folder: "/work"})
	if d.IsHooked() || d.Waits() {
		t.Error("a new desk is not empty")
	}
	if err := d.Leave("first"); err != nil {
		t.Fatal(err)
	}
	if err := d.Leave("second"); err != nil || !d.Waits() {
		t.Fatal(err)
	}
	hook := FindDesk(folder, Agent{Client: "gemini", Session: "s", Folder: "/work/"})
	if hook == nil || !d.IsHooked() {
		t.Fatal("the hook did not find the desk")
	}
	if got := hook.Take(); got != "second" || d.Waits() {
		t.Errorf("the note is %q", got)
	}
	if got := hook.Take(); got != "" {
		t.Errorf("it is taken again: %q", got)
	}
	d.Clear()
	if left, _ := os.ReadDir(folder); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestANoteIsForOneAgent(t *testing.T) {
	folder := t.TempDir()
	one := newDesk(t, folder, Agent{Client: "codex", Folder: "/a"})
	two := newDesk(t, folder, Agent{Client: "codex", Folder: "/b"})
	other := newDesk(t, folder, Agent{Client: "cursor", Folder: "/home"})
	if err := two.Belongs(Agent{Client: "codex", Session: "thread-2", Folder: "/b"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		asks Agent
		want *Desk
	}{
		{Agent{Client: "codex", Session: "thread-2", Folder: "/a"}, two}, // the conversation counts first
		{Agent{Client: "codex", Session: "thread-1", Folder: "/a"}, one},
		{Agent{Client: "codex", Session: "thread-1", Folder: "/c"}, nil}, // nobody knows which
		{Agent{Client: "cursor", Folder: "/c"}, other},                   // there is one only
		{Agent{Client: "gemini", Folder: "/a"}, nil},
	} {
		got := FindDesk(folder, c.asks)
		if (got == nil) != (c.want == nil) || got != nil && got.path != c.want.path {
			t.Errorf("%+v finds %v, want %v", c.asks, got, c.want)
		}
	}
	newDesk(t, folder, Agent{Client: "codex", Folder: "/a"})
	if got := FindDesk(folder, Agent{Client: "codex", Folder: "/a"}); got != nil {
		t.Error("of two agents in one folder one was chosen")
	}
}

// What a killed process left, or nobody can read, is cleared away.
func TestDesksOfTheDeadAreCleared(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"dead.json": `{"client":"codex","pid":2147483646}`, "dead.note": "x", "broken.json": "{"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := FindDesk(folder, Agent{Client: "codex"}); got != nil {
		t.Error("a dead process has a desk")
	}
	if left, _ := os.ReadDir(folder); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	if FindDesk(filepath.Join(folder, "missing"), Agent{Client: "codex"}) != nil {
		t.Error("a desk is found in no folder")
	}
}
