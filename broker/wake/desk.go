package wake

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// A desk is where the program of an agent leaves a note for the hooks of its client,
// which are other processes: they take it when the agent ends a turn. It is a few
// files, and no socket, so that nothing has to answer in time. The program holds a
// lock as long as it lives: a process id could be another's by now, or of another
// container that has the same home.
//
//	<id>.lock    held by the program
//	<id>.json    whose desk it is
//	<id>.note    what is to be said at the end of a turn
//	<id>.taken   that, once a hook has taken it
//	<id>.hooked  a hook was here: notes are taken

// Agent says which agent of a client is meant. What is not known is "".
type Agent struct {
	Client  string `json:"client"`  // claude, codex, gemini or cursor
	Session string `json:"session"` // what the client calls the conversation
	Folder  string `json:"folder"`  // where it works
}

// Desk belongs to one running program.
type Desk struct {
	path string       // without the endings
	lock *flock.Flock // of the program; nil for a hook
}

const (
	locked = ".lock"
	about  = ".json"
	note   = ".note"
	taken  = ".taken"
	hooked = ".hooked"
)

// forgetAfter is how old what dead programs left must be to be cleared away.
const forgetAfter = time.Hour

// NewDesk makes the desk of this process below a folder, and clears away what others
// left there that have ended.
func NewDesk(folder string, a Agent) (*Desk, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	Sweep(folder)
	d := &Desk{path: filepath.Join(folder, rand.Text())}
	d.lock = flock.New(d.path+locked, flock.SetPermissions(0o600))
	if _, err := d.lock.TryLock(); err != nil {
		return nil, err
	}
	return d, d.Belongs(a)
}

// Belongs says anew whose desk it is: some clients tell only later.
func (d *Desk) Belongs(a Agent) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return d.write(about, text)
}

// write replaces a file at once: a hook may be reading it.
func (d *Desk) write(ending string, text []byte) error {
	temporary := d.path + ending + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, d.path+ending)
}

// IsHooked reports whether a hook of the client was here, and knew whose desk it is:
// then a note will be taken.
func (d *Desk) IsHooked() bool { return d.has(hooked) }

// Leave puts a note on the desk, in the place of one that was not taken.
func (d *Desk) Leave(text string) error { return d.write(note, []byte(text)) }

// WasTaken reports whether a hook took the note, once.
func (d *Desk) WasTaken() bool { return os.Remove(d.path+taken) == nil }

// Withdraw takes the note away: it is no news any more.
func (d *Desk) Withdraw() { _ = os.Remove(d.path + note) }

func (d *Desk) has(ending string) bool {
	_, err := os.Stat(d.path + ending)
	return err == nil
}

// Clear takes the desk away.
func (d *Desk) Clear() {
	for _, ending := range []string{about, note, taken, hooked} {
		_ = os.Remove(d.path + ending)
	}
	if d.lock != nil {
		_ = d.lock.Unlock()
	}
	_ = os.Remove(d.path + locked)
}

// FindDesk returns the desk of an agent that a hook speaks of, and notes that a hook
// was here; nil if there is none, or nobody can tell which: a note that reaches
// another agent would be a lie to both. A conversation counts before a folder. Where a
// client starts its servers outside of any project, and has one, that one is meant.
func FindDesk(folder string, a Agent) *Desk {
	found := slices.DeleteFunc(desks(folder), func(d desk) bool { return d.Client != a.Client })
	for _, matches := range []func(desk) bool{
		func(d desk) bool { return a.Session != "" && d.Session == a.Session },
		func(d desk) bool { return a.Folder != "" && filepath.Clean(d.Folder) == filepath.Clean(a.Folder) },
		func(d desk) bool { return len(found) == 1 && isNoProject(d.Folder) },
	} {
		candidates := slices.DeleteFunc(slices.Clone(found), func(d desk) bool { return !matches(d) })
		if len(candidates) > 1 {
			for _, d := range candidates {
				_ = os.Remove(d.path + hooked) // what they leave would not be taken
			}
			return nil
		}
		if len(candidates) == 1 {
			d := candidates[0].Desk
			_ = os.WriteFile(d.path+hooked, nil, 0o600)
			return d
		}
	}
	return nil
}

// isNoProject reports whether a client names this folder for want of a better one.
func isNoProject(folder string) bool {
	home, err := os.UserHomeDir()
	folder = filepath.Clean(folder)
	return folder == "." || folder == filepath.Dir(folder) || err == nil && folder == filepath.Clean(home)
}

// Take takes the note, "" if there is none. Of two hooks that come at once, one gets it.
func (d *Desk) Take() string {
	if os.Rename(d.path+note, d.path+taken) != nil {
		return ""
	}
	text, _ := os.ReadFile(d.path + taken)
	return string(text)
}

// PutBack undoes Take: nobody was told.
func (d *Desk) PutBack() { _ = os.Rename(d.path+taken, d.path+note) }

// desk is a Desk and whose it is.
type desk struct {
	*Desk
	Agent
}

// desks returns those of living programs.
func desks(folder string) (all []desk) {
	paths, _ := filepath.Glob(filepath.Join(folder, "*"+about))
	for _, path := range paths {
		d := desk{Desk: &Desk{path: strings.TrimSuffix(path, about)}}
		text, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(text, &d.Agent) == nil && isHeld(d.path+locked) {
			all = append(all, d)
		}
	}
	return all
}

// isHeld reports whether a program holds a lock.
func isHeld(path string) bool {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	lock := flock.New(path)
	got, err := lock.TryRLock() // not to be in the way of another hook that looks
	if got {
		_ = lock.Unlock()
	}
	return err == nil && !got
}

// Sweep clears away what programs left that have ended a while ago.
func Sweep(folder string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		id, _, _ := strings.Cut(entry.Name(), ".")
		path := filepath.Join(folder, id)
		if err == nil && time.Since(info.ModTime()) > forgetAfter && !isHeld(path+locked) {
			_ = os.Remove(filepath.Join(folder, entry.Name()))
		}
	}
}
