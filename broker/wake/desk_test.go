package wake

import (
	"os"
	"path/filepath"
	"testing"
	"time"
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
	d := newDesk(t, folder, Agent{Client: "gemini", Folder: "/project"})
	if d.IsHooked() || d.has(note) {
		t.Error("a new desk is not empty")
	}
	if err := d.Leave("first"); err != nil {
		t.Fatal(err)
	}
	if err := d.Leave("second"); err != nil || d.WasTaken() {
		t.Fatal(err)
	}
	hook := FindDesk(folder, Agent{Client: "gemini", Session: "s", Folder: "/project/"})
	if hook == nil || !d.IsHooked() {
		t.Fatal("the hook did not find the desk")
	}
	if got := hook.Take(); got != "second" {
		t.Errorf("the note is %q", got)
	}
	hook.PutBack()
	if got := hook.Take(); got != "second" || !d.WasTaken() || d.WasTaken() {
		t.Errorf("put back, the note is %q", got)
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
	other := newDesk(t, folder, Agent{Client: "cursor", Folder: "/"})
	newDesk(t, folder, Agent{Client: "gemini", Folder: "/project"})
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
		{Agent{Client: "cursor", Folder: "/c"}, other},                   // which does not say where it works
		{Agent{Client: "gemini", Folder: "/a"}, nil},                     // that one works elsewhere
		{Agent{Client: "claude", Folder: "/a"}, nil},
	} {
		got := FindDesk(folder, c.asks)
		if (got == nil) != (c.want == nil) || got != nil && got.path != c.want.path {
			t.Errorf("%+v finds %v, want %v", c.asks, got, c.want)
		}
	}
	newDesk(t, folder, Agent{Client: "codex", Folder: "/a"})
	if got := FindDesk(folder, Agent{Client: "codex", Folder: "/a"}); got != nil || one.IsHooked() || !two.IsHooked() {
		t.Error("of two agents in one folder one was chosen, or is promised notes")
	}
}

// What a killed program left is no desk, and is cleared away after a while.
func TestDesksOfTheDeadAreCleared(t *testing.T) {
	folder := t.TempDir()
	live := newDesk(t, folder, Agent{Client: "gemini", Folder: "/a"})
	dead := []string{"dead.json", "dead.lock", "dead.note", "dead.hooked", "broken.json", "gone.note", "x.working"}
	for _, name := range dead {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(`{"client":"codex"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := FindDesk(folder, Agent{Client: "codex"}); got != nil {
		t.Error("a dead program has a desk")
	}
	Sweep(folder)
	entries, _ := os.ReadDir(folder)
	if len(entries) != len(dead)+2 {
		t.Errorf("what may be in use was cleared: %v", entries)
	}
	old := time.Now().Add(-2 * forgetAfter)
	for _, entry := range entries {
		if err := os.Chtimes(filepath.Join(folder, entry.Name()), old, old); err != nil {
			t.Fatal(err)
		}
	}
	Sweep(folder)
	if entries, _ := os.ReadDir(folder); len(entries) != 2 || FindDesk(folder, Agent{Client: "gemini", Folder: "/a"}) == nil {
		t.Errorf("left are %v", entries)
	}
	live.Clear()
	if FindDesk(folder, Agent{Client: "gemini", Folder: "/a"}) != nil || FindDesk(filepath.Join(folder, "missing"), Agent{Client: "codex"}) != nil {
		t.Error("a desk is found where there is none")
	}
}
