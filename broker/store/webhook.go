package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Webhooks (protocol, services, section 3). One acts for the member that made it,
// in one topic, and ends with a ban of that member.

// MaxWebhooks is how many webhooks one member may have.
const MaxWebhooks = 100

// ErrNoWebhook says that there is no such webhook, or not any more.
var ErrNoWebhook = errors.New("no such webhook")

// Webhook is a webhook without its secret, which nobody but its holder has.
type Webhook struct {
	ID        string // also the sender's of its messages
	MeshID    string
	MemberID  string // who made it
	MadeBy    string // that member's name
	TopicID   string
	Topic     string // its name
	Name      string // one of its mesh
	PubKey    string // the sender's of its messages; nobody has the secret half
	Hash      string // see HashAPIKey
	CreatedAt time.Time
	Active    bool // its member may post to the topic
}

const (
	webhookColumns = `w.id, w.mesh_id, w.member_id, m.display_name, w.topic_id, t.name, w.name, w.pubkey, w.hash, w.created_at,
		m.revoked_at IS NULL AND coalesce(tm.role, 'observer') <> 'observer'`
	webhookTables = `webhook w JOIN member m ON m.id = w.member_id JOIN topic t ON t.id = w.topic_id
		LEFT JOIN topic_member tm ON tm.topic_id = w.topic_id AND tm.member_id = w.member_id`
)

func scanWebhook(scan func(...any) error) (w Webhook, err error) {
	var created int64
	err = scan(&w.ID, &w.MeshID, &w.MemberID, &w.MadeBy, &w.TopicID, &w.Topic, &w.Name, &w.PubKey, &w.Hash, &created, &w.Active)
	w.CreatedAt = time.UnixMilli(created)
	return w, err
}

// CreateWebhook keeps a new webhook of an active member for the topic of the id or
// name TopicID, and returns it with what that topic is. Errors: ErrMemberRevoked, ErrNotFound (no such
// topic for this member), ErrForbidden (may not post there), ErrExists (the name is
// taken), ErrTooMany.
func (db *DB) CreateWebhook(w Webhook) (Webhook, error) {
	err := db.Update(func(tx *Tx) error {
		if err := tx.mayPost(w.MemberID); err != nil {
			return err
		}
		topic, role, err := tx.topic(w.MeshID, w.MemberID, w.TopicID)
		if err != nil {
			return err
		}
		if role == "" || role == "observer" {
			return ErrForbidden
		}
		w.TopicID, w.Topic, w.Active = topic.ID, topic.Name, true
		var has int
		if err := tx.row(&has, `SELECT count(*) FROM webhook WHERE member_id = ?`, w.MemberID); err != nil {
			return err
		}
		if has >= MaxWebhooks {
			return ErrTooMany
		}
		added, err := tx.execCount(`INSERT INTO webhook (id, mesh_id, member_id, topic_id, name, pubkey, hash, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (mesh_id, name) DO NOTHING`,
			w.ID, w.MeshID, w.MemberID, w.TopicID, w.Name, w.PubKey, w.Hash, w.CreatedAt.UnixMilli())
		if err != nil {
			return err
		}
		if added == 0 {
			return ErrExists
		}
		return tx.auditWebhook(EventWebhookCreated, w, w.MemberID)
	})
	return w, err
}

// auditWebhook appends what a member did to a webhook to the audit chain: nothing in
// it helps to guess the secret.
func (tx *Tx) auditWebhook(event string, w Webhook, by string) error {
	pubkey, name, err := tx.signature(by)
	if err != nil {
		return err
	}
	return tx.audit(w.MeshID, event, pubkey, map[string]any{
		"webhookId": w.ID, "name": w.Name, "memberId": w.MemberID, "topicId": w.TopicID, "topic": w.Topic, "by": name,
	})
}

// LiveWebhook returns the webhook of a mesh whose secret has a hash, and the member
// that made it. ErrNotFound unless there is one and its member is active.
func (db *DB) LiveWebhook(ctx context.Context, meshID, hash string) (w Webhook, m Member, err error) {
	w, err = scanWebhook(func(dst ...any) error {
		return db.scan(ctx, dst, `SELECT `+webhookColumns+` FROM `+webhookTables+` WHERE w.mesh_id = ? AND w.hash = ? AND m.revoked_at IS NULL`, meshID, hash)
	})
	if err != nil {
		return w, m, err
	}
	m, err = db.MemberByID(ctx, w.MeshID, w.MemberID)
	if err == nil && m.Revoked() {
		err = ErrNotFound // in between
	}
	return w, m, err
}

// Webhooks returns the webhooks of a member, or of the whole mesh if memberID is "",
// by name.
func (db *DB) Webhooks(ctx context.Context, meshID, memberID string) (all []Webhook, err error) {
	err = db.rows(ctx, func(rows *sql.Rows) error {
		w, err := scanWebhook(rows.Scan)
		all = append(all, w)
		return err
	}, `SELECT `+webhookColumns+` FROM `+webhookTables+` WHERE w.mesh_id = ?1 AND (?2 = '' OR w.member_id = ?2) ORDER BY w.name`, meshID, memberID)
	return all, err
}

// DeleteWebhook ends a webhook: one of the member by, or if it acts as a moderator
// any of the mesh. Errors: ErrForbidden if by may not moderate, ErrNoWebhook.
func (db *DB) DeleteWebhook(meshID, by, name string, asModerator bool) error {
	return db.Update(func(tx *Tx) error {
		whose := by
		if asModerator {
			if _, _, err := tx.mayModerate(meshID, by); err != nil {
				return err
			}
			whose = ""
		}
		w, err := scanWebhook(func(dst ...any) error {
			return tx.scan(dst, `SELECT `+webhookColumns+` FROM `+webhookTables+` WHERE w.mesh_id = ?1 AND w.name = ?2 AND (?3 = '' OR w.member_id = ?3)`, meshID, name, whose)
		})
		if err != nil {
			return orElse(err, ErrNoWebhook)
		}
		if err := tx.exec(`DELETE FROM webhook WHERE id = ?`, w.ID); err != nil {
			return err
		}
		return tx.auditWebhook(EventWebhookDeleted, w, by)
	})
}

// endWebhooksOf deletes the webhooks of a member: they do not come back with it.
func (tx *Tx) endWebhooksOf(memberID string) error {
	return tx.exec(`DELETE FROM webhook WHERE member_id = ?`, memberID)
}

// mayHook refuses what came by a webhook that was deleted since its request was let
// in (ErrNoWebhook): once a deletion is answered, nothing is stored by it.
func (tx *Tx) mayHook(p *Post) error {
	if p.WebhookOf == "" {
		return nil
	}
	var lives bool
	err := tx.row(&lives, `SELECT count(*) FROM webhook WHERE id = ? AND member_id = ?`, p.SenderMemberID, p.WebhookOf)
	if err == nil && !lives {
		err = ErrNoWebhook
	}
	return err
}
