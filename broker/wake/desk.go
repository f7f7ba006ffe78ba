package wake

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A desk is where the program of an agent leaves a note for the hooks of its client,
// which are other processes: they take it when the agent ends a turn. It is a few
// files, and no socket, so that nothing has to answer in time, and what a killed
// process leaves behind is known by its process id.
//
//	<id>.json    whose desk it is
//	<id>.note    what is to be said at the end of a turn
//	<id>.hooked  a hook was here: notes are taken

// Agent says which agent of a client is meant. What is not known is "".
type Agent struct {
	Client  string `json:"client"`  // claude, codex, gemini or cursor
	Session string `json:"session"` // what the client calls the conversation
	Folder  string `json:"folder"`  // where it works
}

// Desk belongs to one running program.
type Desk struct{ path string } // without the endings

const (
	about  = ".json"
	note   = ".note"
	hooked = ".hooked"
)

type onDesk struct {
	Agent
	PID int `json:"pid"`
}

// NewDesk makes the desk of this process below a folder, and clears away those of
// processes that are gone.
func NewDesk(folder string, a Agent) (*Desk, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	_, _ = desks(folder) // which drops what is dead
	d := &Desk{path: filepath.Join(folder, rand.Text())}
	return d, d.Belongs(a)
}

// Belongs says anew whose desk it is: some clients tell only later.
func (d *Desk) Belongs(a Agent) error {
	text, err := json.Marshal(onDesk{a, os.Getpid()})
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

// IsHooked reports whether a hook of the client was here: then a note will be taken.
func (d *Desk) IsHooked() bool { return d.has(hooked) }

// Leave puts a note on the desk, in the place of one that was not taken.
func (d *Desk) Leave(text string) error { return d.write(note, []byte(text)) }

// Waits reports whether there is a note that was not taken.
func (d *Desk) Waits() bool { return d.has(note) }

func (d *Desk) has(ending string) bool {
	_, err := os.Stat(d.path + ending)
	return err == nil
}

// Withdraw takes the note away: it is no news any more.
func (d *Desk) Withdraw() { _ = os.Remove(d.path + note) }

// Clear takes the desk away.
func (d *Desk) Clear() {
	for _, ending := range []string{about, note, hooked} {
		_ = os.Remove(d.path + ending)
	}
}

// FindDesk returns the desk of an agent that a hook speaks of, and notes that a hook
// was here; nil if there is none, or nobody can tell which: a note that reaches
// another agent would be a lie to both. A conversation counts before a folder, and a
// client that has one desk only has no other agent.
func FindDesk(folder string, a Agent) *Desk {
	all, err := desks(folder)
	if err != nil {
		return nil
	}
	var found []desk
	for _, d := range all {
		if d.Client == a.Client {
			found = append(found, d)
		}
	}
	for _, matches := range []func(desk) bool{
		func(d desk) bool { return a.Session != "" && d.Session == a.Session },
		func(d desk) bool { return a.Folder != "" && filepath.Clean(d.Folder) == filepath.Clean(a.Folder) },
		func(desk) bool { return true },
	} {
		candidates := slices.DeleteFunc(slices.Clone(found), func(d desk) bool { return !matches(d) })
		if len(candidates) > 1 {
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

// Take takes the note, "" if there is none. Of two hooks that come at once, one gets it.
func (d *Desk) Take() string {
	mine := d.path + note + "." + rand.Text()
	if os.Rename(d.path+note, mine) != nil {
		return ""
	}
	defer os.Remove(mine)
	text, _ := os.ReadFile(mine)
	return string(text)
}

// desk is a Desk and whose it is.
type desk struct {
	*Desk
	onDesk
}

// desks returns those of living processes, and removes the others.
func desks(folder string) (all []desk, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		id, isDesk := strings.CutSuffix(entry.Name(), about)
		if !isDesk {
			continue
		}
		d := desk{Desk: &Desk{path: filepath.Join(folder, id)}}
		text, err := os.ReadFile(d.path + about)
		switch {
		case err != nil: // it was cleared just now
		case json.Unmarshal(text, &d.onDesk) != nil || !isAlive(d.PID):
			d.Clear()
		default:
			all = append(all, d)
		}
	}
	return all, nil
}
