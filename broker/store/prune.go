package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Pruning. Direct, group and broadcast messages are not history: once every
// recipient has them, or they have expired, they are kept for a while and then
// deleted, together with their deliveries. What a topic holds stays.
//
// It runs beside senders. It looks for what may go on the readers' connections;
// the writer deletes a little at a time, looks again while it does, and is then
// left alone for twice as long as that took. Few messages at a time, because
// their rows in indexes lie far apart: (seen) deleting 100 at once costs no less
// in all than 50, and senders wait twice as long.

const (
	pruneMessages = 50               // deleted in one transaction at most
	pruneRows     = 200              // deliveries deleted in one, unless it is one message's
	pruneLook     = 2000             // messages looked at in one query
	pruneRest     = 2                // times what the writer took
	minPruneRest  = time.Millisecond // between two looks
	pruneAgain    = time.Hour        // until a pass looks again at what could not go
	retryOnTheWay = time.Minute      // a client_message_id is kept so much longer than it stands
	prunedKey     = "pruned_seq"     // setting: up to here no message without deliveries is left
)

// Retention says which messages are kept although everyone has them.
type Retention struct {
	Age  time.Duration // those sent so recently; 0: all
	Rows int           // those of the newest so many rows of delivery; 0: all
}

// Pruner deletes by a Retention. It is not safe for concurrent use.
type Pruner struct {
	db      *DB
	keep    Retention
	deleted func(n int)

	from  int64     // the next pass begins behind this seq
	began time.Time // when one last began at the start
	limits
}

// limits are a Retention at a moment.
type limits struct {
	upto     int64 // seq: nothing after it may go
	created  int64 // Unix ms: what was sent by then may go
	below    int64 // what has a lower seq may go
	standing int64 // Unix ms: a client_message_id sent before is free
	final    int64 // seq: up to here only deliveries keep what may not go
}

// NewPruner returns a Pruner; deleted is told after each of its transactions how
// many messages went.
func (db *DB) NewPruner(keep Retention, deleted func(n int)) *Pruner {
	return &Pruner{db: db, keep: keep, deleted: deleted}
}

// Pass deletes what may go by now. What could not go when it was looked at is
// looked at again an hour later. When ctx ends, Pass returns its error before
// the next transaction.
func (p *Pruner) Pass(ctx context.Context, now time.Time) (err error) {
	if p.limits, err = p.db.limits(ctx, p.keep, now); err != nil || p.upto == 0 {
		return err
	}
	if again := now.Sub(p.began); again >= pruneAgain || again < 0 {
		p.from, p.began = 0, now
	}
	if p.from, err = p.walk(ctx, addressed, p.from, p.upto); err != nil {
		return err
	}
	return p.walkUnaddressed(ctx)
}

// limits looks up how far a pass may go. Ids sort by time, and seqs nearly as
// they do: where a clock jumped, something goes later than it might.
func (db *DB) limits(ctx context.Context, keep Retention, now time.Time) (l limits, err error) {
	free := now.Add(-IdempotencyWindow - retryOnTheWay)
	l.standing = free.UnixMilli()
	if keep.Age > 0 {
		l.created = now.Add(-keep.Age).UnixMilli()
		if l.upto, err = db.newestBefore(ctx, now.Add(-keep.Age)); err != nil {
			return l, err
		}
	}
	if keep.Rows > 0 {
		err = db.row(ctx, &l.below, `SELECT seq FROM delivery ORDER BY seq DESC LIMIT 1 OFFSET ?`, keep.Rows-1)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return l, err
		}
		l.upto = max(l.upto, l.below-1)
	}
	l.final, err = db.newestBefore(ctx, free)
	l.final = min(l.final, l.upto)
	return l, err
}

// newestBefore returns the seq of the newest message before t, 0 for none. Ids
// of one millisecond do not sort, so it looks at all of the last one.
func (db *DB) newestBefore(ctx context.Context, t time.Time) (seq int64, err error) {
	err = db.row(ctx, &seq, `SELECT coalesce(max(seq), 0) FROM message
		WHERE id < ?1 AND id >= (SELECT substr(id, 1, ?2) FROM message WHERE id < ?1 ORDER BY id DESC LIMIT 1)`, newID(t)[:timeLen], timeLen)
	return seq, err
}

// mayGo is whether message m may go by limits ?1 to ?3, its deliveries aside.
const mayGo = `(m.topic_id IS NULL AND (m.created_at <= ?1 OR m.seq < ?2) AND (m.client_message_id IS NULL OR m.created_at < ?3))`

// Both walks select, for messages with a seq after ?4 and up to ?5, in order:
// seq, whether it may go, and how many deliveries go with it.
const (
	// Found by their deliveries, because history has none.
	addressed = `SELECT m.seq, ` + mayGo + ` AND count(*) = count(d.settled_at), count(*)
		FROM delivery d JOIN message m ON m.seq = d.seq WHERE d.seq > ?4 AND d.seq <= ?5 GROUP BY d.seq ORDER BY d.seq LIMIT ?6`

	// Those that were for nobody, such as a broadcast in an empty room.
	unaddressed = `SELECT m.seq, ` + mayGo + ` AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = m.seq), 0
		FROM message m WHERE m.seq > ?4 AND m.seq <= ?5 ORDER BY m.seq LIMIT ?6`
)

// walkUnaddressed goes on where the last pass ended, also that of an earlier
// run: it reads history too, and once is enough.
func (p *Pruner) walkUnaddressed(ctx context.Context) error {
	var from int64
	err := p.db.row(ctx, &from, `SELECT CAST(value AS INTEGER) FROM setting WHERE key = ?`, prunedKey)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	end, err := p.walk(ctx, unaddressed, from, p.final)
	if end > from {
		err = errors.Join(err, p.db.SetSetting(prunedKey, fmt.Sprint(end)))
	}
	return err
}

// walk deletes what may go of the messages after from up to upto that query
// selects. It returns how far it came.
func (p *Pruner) walk(ctx context.Context, query string, from, upto int64) (int64, error) {
	for from < upto {
		seqs, next, err := p.look(ctx, query, from, upto)
		if err != nil {
			return from, err
		}
		took, err := p.delete(seqs)
		if err != nil {
			return from, err
		}
		from = next
		if err := pause(ctx, max(pruneRest*took, minPruneRest)); err != nil {
			return from, err
		}
	}
	return from, nil
}

// look returns what may go next, as much as one transaction takes, and where to
// look on.
func (p *Pruner) look(ctx context.Context, query string, from, upto int64) (seqs []int64, next int64, err error) {
	deliveries, looked := 0, 0
	next = from
	err = p.db.rows(ctx, func(rows *sql.Rows) error {
		var seq int64
		var goes bool
		var n int
		if err := rows.Scan(&seq, &goes, &n); err != nil {
			return err
		}
		if goes && len(seqs) > 0 && deliveries+n > pruneRows {
			return errEnough
		}
		if looked, next = looked+1, seq; !goes {
			return nil
		}
		seqs, deliveries = append(seqs, seq), deliveries+n
		if len(seqs) == pruneMessages {
			return errEnough
		}
		return nil
	}, query, p.created, p.below, p.standing, from, upto, pruneLook)
	switch {
	case errors.Is(err, errEnough):
		return seqs, next, nil
	case looked < pruneLook:
		next = upto
	}
	return seqs, next, err
}

// errEnough ends the reading of rows.
var errEnough = errors.New("enough")

// delete deletes those of seqs that still may go, and returns how long the
// writer took, its other work of that time included.
func (p *Pruner) delete(seqs []int64) (took time.Duration, err error) {
	if len(seqs) == 0 {
		return 0, nil
	}
	var n int64
	began := time.Now()
	err = p.db.Update(func(tx *Tx) (err error) {
		n, err = tx.prune(p.limits, toJSON(seqs))
		return err
	})
	if err == nil && n > 0 {
		p.deleted(int(n))
	}
	return time.Since(began), err
}

// prune deletes the messages of a JSON list as far as they may go, and their
// deliveries. It returns how many went.
func (tx *Tx) prune(l limits, seqs string) (int64, error) {
	n, err := tx.execCount(`DELETE FROM message AS m WHERE m.seq IN (SELECT value FROM json_each(?4)) AND `+mayGo+`
		AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = m.seq AND d.settled_at IS NULL)`, l.created, l.below, l.standing, seqs)
	if err != nil {
		return 0, err
	}
	return n, tx.exec(`DELETE FROM delivery AS d WHERE d.seq IN (SELECT value FROM json_each(?1))
		AND NOT EXISTS (SELECT 1 FROM message m WHERE m.seq = d.seq)`, seqs)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
