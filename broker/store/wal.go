package store

import (
	"context"
	"fmt"
	"os"
	"time"
)

// The write-ahead log. SQLite copies it into the file by itself, but begins it
// anew only in a moment when nobody reads, and with several readers that moment
// may never come: (seen) beside four that read all the time it grew by 50 MB a
// second. So the writer watches its size, and when it is large it waits for those
// who read just now. Who begins to read then is not waited for: by that time
// everything is in the file.
const (
	walLarge = 16 << 20 // bytes from which on the log is to begin anew
	walKeep  = 8 << 20  // bytes the log's file may keep when it does
	walLook  = 16       // commits between two looks at it

	walPatience    = 50 * time.Millisecond  // for the readers of a log of walLarge; of a larger one as much more,
	maxWALPatience = 250 * time.Millisecond // but not so long that senders notice: it may be a backup, which takes minutes
	walRest        = 20                     // times the patience until it is tried again: senders wait 5 % of the time at most
	maxWALRests    = 4                      // how often that is doubled while it is in vain: Litestream reads all the time, and has the log begun anew itself
	busyTimeout    = 5 * time.Second        // patience for the locks of other processes
)

// walWatch keeps the write-ahead log from growing. The commit goroutine owns it.
type walWatch struct {
	path    string
	commits int
	next    time.Time // no try before
	inVain  int       // tries in a row
}

// committed looks after the log once in a while, between two transactions.
func (w *walWatch) committed(tx *Tx) {
	if w.commits++; w.commits%walLook != 0 {
		return
	}
	info, err := os.Stat(w.path)
	if err != nil || info.Size() <= walLarge || time.Now().Before(w.next) {
		return
	}
	patience := min(walPatience*time.Duration(info.Size()/walLarge), maxWALPatience)
	if tx.restartWAL(patience) {
		w.inVain = 0
		return
	}
	w.next = time.Now().Add(walRest * patience << w.inVain)
	w.inVain = min(w.inVain+1, maxWALRests)
}

// restartWAL copies the log into the file and has the next transaction begin it
// anew. It reports whether the readers let it.
func (tx *Tx) restartWAL(patience time.Duration) bool {
	if tx.wait(patience) != nil {
		return false
	}
	var busy, frames, copied int
	err := tx.conn.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(RESTART)").Scan(&busy, &frames, &copied)
	return tx.wait(busyTimeout) == nil && err == nil && busy == 0
}

// wait says how long the writer waits for locks. It is not prepared, because
// SQLite obeys this one while it compiles it.
func (tx *Tx) wait(d time.Duration) error {
	_, err := tx.conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA busy_timeout(%d)", d.Milliseconds()))
	return err
}
