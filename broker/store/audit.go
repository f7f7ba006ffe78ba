package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// The audit chain of a mesh: what happened in it besides messages, and who did
// it. An entry is appended in the transaction of the change that it records, so
// there is neither without the other, whichever process made it.
//
// Each entry carries a hash over itself and the hash before it. A row that was
// changed, removed, inserted or moved no longer fits. Two things a chain in one
// file cannot show by itself: entries missing at its end, and a chain that was
// computed anew by somebody who can write the file. Both show against the hash
// of the last entry if that was kept elsewhere.

// The events of the chain.
const (
	EventMeshCreated        = "mesh_created"
	EventMeshRenamed        = "mesh_renamed"
	EventInviteCreated      = "invite_created"
	EventInviteRevoked      = "invite_revoked"
	EventMemberJoined       = "member_joined"
	EventMemberRevoked      = "member_revoked"
	EventMemberRestored     = "member_restored"
	EventMemberKicked       = "member_kicked"
	EventMemberDisconnected = "member_disconnected"
	EventTopicCreated       = "topic_created"
	EventTopicDescribed     = "topic_described"
	EventTopicJoined        = "topic_joined"
	EventTopicLeft          = "topic_left"
	EventTopicInvited       = "topic_invited"
	EventTopicEncrypted     = "topic_encrypted"  // from then on: before it was not
	EventTopicKeySealed     = "topic_key_sealed" // for another member
	EventPeerJoined         = "peer_joined"      // a presence that earned a lease
	EventPeerLeft           = "peer_left"        // the end of one
	EventGrantsChanged      = "grants_changed"
	EventKeyCreated         = "api_key_created"
	EventKeyRevoked         = "api_key_revoked"
	EventWebhookCreated     = "webhook_created"
	EventWebhookDeleted     = "webhook_deleted"
)

// Actors that are no members; members stand there by their public key.
const (
	ActorOperator = "operator" // a command on the data file
	ActorServer   = "server"   // the broker by itself
)

// AuditEntry is one entry of a mesh's chain.
type AuditEntry struct {
	Number    int64 // 1, 2, 3… within the mesh
	ID        string
	Event     string
	Actor     string // a member's public key, ActorOperator or ActorServer
	Payload   string // JSON object
	Hash      string // 64 hex
	CreatedAt time.Time
}

// chainDomain begins what is hashed, so that no hash of another kind of text
// can pass for one of an entry. Its number changes with the form.
const chainDomain = "meshbox-audit-1"

// chainHash returns the hash of an entry that follows the one with the hash
// before, "" for a mesh's first: SHA-256, in lowercase hex, over these nine
// fields in this order,
//
//	"meshbox-audit-1", before, mesh id, number, id, created_at, event, actor, payload
//
// each written as a netstring, which is its length in bytes as a decimal, ":",
// its bytes as they stand in the column, and ",". Numbers are decimals without
// leading zeros; created_at is in Unix milliseconds. The lengths make the text
// unambiguous: no field can lend bytes to its neighbour.
func (e AuditEntry) chainHash(meshID, before string) string {
	var text []byte
	for _, field := range []string{
		chainDomain, before, meshID, strconv.FormatInt(e.Number, 10), e.ID,
		strconv.FormatInt(e.CreatedAt.UnixMilli(), 10), e.Event, e.Actor, e.Payload,
	} {
		text = strconv.AppendInt(text, int64(len(field)), 10)
		text = append(text, ':')
		text = append(text, field...)
		text = append(text, ',')
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// audit appends an entry to the chain of a mesh, in the transaction of the
// change that it records. payload is encoded as a JSON object: metadata with
// names a person can read, never the content of a message, nor a secret.
func (tx *Tx) audit(meshID, event, actor string, payload map[string]any) error {
	if payload == nil {
		payload = map[string]any{}
	}
	text, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	now := time.Now()
	e := AuditEntry{ID: newID(now), Event: event, Actor: actor, Payload: string(text), CreatedAt: now}
	var before string
	err = tx.scan([]any{&e.Number, &before}, `SELECT number, hash FROM audit WHERE mesh_id = ? ORDER BY number DESC LIMIT 1`, meshID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	e.Number++
	return tx.exec(`INSERT INTO audit (mesh_id, number, id, event, actor, payload, hash, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		meshID, e.Number, e.ID, e.Event, e.Actor, e.Payload, e.chainHash(meshID, before), e.CreatedAt.UnixMilli())
}

// signature is how a member stands in the chain: by its key, with a name for
// readers.
func (tx *Tx) signature(memberID string) (pubkey, name string, err error) {
	err = tx.scan([]any{&pubkey, &name}, `SELECT coalesce(pubkey, ''), display_name FROM member WHERE id = ?`, memberID)
	return pubkey, name, err
}

const auditColumns = `number, id, event, actor, payload, hash, created_at`

func scanAudit(rows *sql.Rows) (e AuditEntry, err error) {
	var created int64
	err = rows.Scan(&e.Number, &e.ID, &e.Event, &e.Actor, &e.Payload, &e.Hash, &created)
	e.CreatedAt = time.UnixMilli(created)
	return e, err
}

// AuditQuery says which entries of a chain are asked for.
type AuditQuery struct {
	Event  string // only those of this event; "": all
	Limit  int
	Offset int // how many of the newest to leave out
}

// AuditEntries returns entries of a mesh's chain, newest first, and how many the
// query matches in all.
func (db *DB) AuditEntries(ctx context.Context, meshID string, q AuditQuery) (all []AuditEntry, total int, err error) {
	if err := db.row(ctx, &total, `SELECT count(*) FROM audit WHERE mesh_id = ?1 AND (?2 = '' OR event = ?2)`, meshID, q.Event); err != nil {
		return nil, 0, err
	}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		e, err := scanAudit(rows)
		all = append(all, e)
		return err
	}, `SELECT `+auditColumns+` FROM audit WHERE mesh_id = ?1 AND (?2 = '' OR event = ?2)
		ORDER BY number DESC LIMIT ?3 OFFSET ?4`, meshID, q.Event, q.Limit, q.Offset)
	return all, total, err
}

// AuditVerdict is what reading a whole chain found.
type AuditVerdict struct {
	Entries  int
	BrokenAt AuditEntry // the first entry that does not fit; its ID is "" if all do
	LastHash string     // of the newest entry; "" if there is none
}

// Valid reports that every entry fits.
func (v AuditVerdict) Valid() bool { return v.BrokenAt.ID == "" }

// VerifyAudit reads the chain of a mesh from its start. It is one statement, so
// it sees one state of the file, and holds one row at a time.
func (db *DB) VerifyAudit(ctx context.Context, meshID string) (AuditVerdict, error) {
	return verifyAudit(ctx, db.read, meshID)
}

func verifyAudit(ctx context.Context, conn querier, meshID string) (v AuditVerdict, err error) {
	err = each(ctx, conn, func(rows *sql.Rows) error {
		e, err := scanAudit(rows)
		if err != nil {
			return err
		}
		v.Entries++
		if v.Valid() && (e.Number != int64(v.Entries) || e.Hash != e.chainHash(meshID, v.LastHash)) {
			v.BrokenAt = e
		}
		v.LastHash = e.Hash
		return nil
	}, `SELECT `+auditColumns+` FROM audit WHERE mesh_id = ? ORDER BY number`, meshID)
	return v, err
}
