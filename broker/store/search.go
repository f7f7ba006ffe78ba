package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/base64"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"modernc.org/sqlite"
)

// Search in topics. What is not encrypted is indexed word by word (SQLite FTS5)
// in the transaction that stores it, so a message can be found as soon as its
// sender knows that it is kept.

// ErrNoWords says that a query has nothing in it that could be looked for.
var ErrNoWords = errors.New("the query has no letter or digit")

// MaxTerms is how many words a query may have. The beginning of a word may stand
// for thousands, which all have to be read.
const MaxTerms = 12

// Search is one question. Query is words that must all be there, each as a whole
// or, from three letters on, as the beginning of one; words between double quotes
// must stand side by side in this order. Case, accents and punctuation are no
// matter.
type Search struct {
	MeshID   string
	MemberID string // who asks: only topics it may see
	TopicID  string // "": all of them
	Query    string
	BeforeID string // only older messages than this one; "": all
	Limit    int
}

// Search returns messages that match, newest first, with the names of their
// topics. Errors: ErrNoWords, ErrTooMany words, ErrNotFound if there is no message
// BeforeID.
func (db *DB) Search(ctx context.Context, s Search) (all []Message, err error) {
	terms := termsOf(s.Query)
	switch {
	case len(terms) == 0:
		return nil, ErrNoWords
	case len(terms) > MaxTerms:
		return nil, ErrTooMany
	}
	match := "text : (" + strings.Join(terms, " AND ") + ")"
	if s.TopicID != "" {
		match = "topic : " + quoted(s.TopicID) + " AND " + match
	}
	before := newestPossible
	if s.BeforeID != "" {
		if err := db.row(ctx, &before, `SELECT seq FROM message WHERE id = ? AND mesh_id = ?`, s.BeforeID, s.MeshID); err != nil {
			return nil, err
		}
	}
	err = db.rows(ctx, func(rows *sql.Rows) error {
		m, err := scanHistory(rows)
		all = append(all, m)
		return err
	}, `SELECT `+historyColumns+`
		FROM message_text f JOIN message x ON x.seq = f.rowid JOIN topic t ON t.id = x.topic_id
		LEFT JOIN topic_member tm ON tm.topic_id = t.id AND tm.member_id = ?2
		WHERE f.message_text MATCH ?1 AND f.rowid < ?4 AND t.mesh_id = ?3 AND `+visible+`
		ORDER BY f.rowid DESC LIMIT ?5`, match, s.MemberID, s.MeshID, before, s.Limit)
	return all, err
}

// termsOf returns the words of a query as FTS5 takes them. Nothing in it is an
// operator: a person searches for AND, not with it.
func termsOf(query string) (terms []string) {
	for i, part := range strings.Split(query, `"`) {
		if i%2 == 1 {
			terms = appendTerm(terms, part, "")
			continue
		}
		for _, word := range strings.Fields(part) {
			prefix := "*"
			if len(word) < minPrefix {
				prefix = "" // all words with that letter would be half of everything
			}
			terms = appendTerm(terms, word, prefix)
		}
	}
	return terms
}

// minPrefix is how long the beginning of a word must be, in bytes: three letters,
// or one of a script in which a letter is a word.
const minPrefix = 3

// appendTerm leaves out what the tokenizer sees no word in: FTS5 would find
// nothing for it.
func appendTerm(terms []string, text, prefix string) []string {
	if !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }) {
		return terms
	}
	return append(terms, quoted(text)+prefix)
}

// quoted is text as an FTS5 string. A zero byte would end it early.
func quoted(text string) string {
	return `"` + strings.NewReplacer(`"`, `""`, "\x00", " ").Replace(text) + `"`
}

// index makes the words of a topic message findable.
func (tx *Tx) index(p *Post) error {
	if p.TopicID == "" || p.BodyVersion != 1 {
		return nil
	}
	return tx.exec(`INSERT INTO message_text (rowid, topic, text) VALUES (?, ?, ?)`, p.Seq, p.TopicID, plaintext(p.Ciphertext))
}

// plaintext is the text of a version 1 body, "" if it is none.
func plaintext(ciphertext string) string {
	text, err := base64.StdEncoding.DecodeString(ciphertext)
	if err != nil || !utf8.Valid(text) {
		return ""
	}
	return string(text)
}

// meshbox_text(ciphertext) is plaintext for the migration that fills the index;
// no schema depends on it, so other programs can open the file.
func init() {
	sqlite.MustRegisterDeterministicScalarFunction("meshbox_text", 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		ciphertext, _ := args[0].(string)
		return plaintext(ciphertext), nil
	})
}
