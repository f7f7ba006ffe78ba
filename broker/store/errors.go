package store

import (
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors of the store. Those of joining are the protocol's own (section 8), so
// that their text is what the client is told.
var (
	ErrNotFound  = errors.New("not found")
	ErrNoMember  = errors.New("no such member")
	ErrNoMessage = errors.New("no such message")
	ErrExists    = errors.New("exists already")
	ErrBusy      = errors.New("the data file is locked by another program; try again in a moment")
	ErrFull      = errors.New("the disk is full; free some space")
	ErrReadOnly  = errors.New("the data file can not be written; check its owner, its mode and the file system")
	ErrCorrupt   = errors.New("the data file is damaged; restore a backup")
	ErrClosed    = errors.New("the store is closed")
	ErrForbidden = errors.New("forbidden")
	ErrTooMany   = errors.New("too many")
	ErrAmbiguous = errors.New("ambiguous")

	ErrEncrypted   = errors.New("the topic is encrypted already")
	ErrUnencrypted = errors.New("the topic is not encrypted")
	ErrNotSealed   = errors.New("the key of the topic is not sealed for the member")
	ErrPlaintext   = errors.New("the topic is encrypted and the message is not")

	errConstraint = errors.New("a constraint of the schema was violated")

	ErrMeshNotFound        = errors.New("mesh_not_found")
	ErrInviteOwnerMismatch = errors.New("invite_owner_mismatch")
	ErrInviteNotFound      = errors.New("invite_not_found")
	ErrInviteMeshMismatch  = errors.New("invite_mesh_mismatch")
	ErrInviteRevoked       = errors.New("invite_revoked")
	ErrInviteExpired       = errors.New("invite_expired")
	ErrInviteExhausted     = errors.New("invite_exhausted")
	ErrKeyTaken            = errors.New("this key belongs to a session of another member; join with a new key")
	ErrMemberRevoked       = errors.New("member_revoked")
)

// IsTrouble tells failures of the file, the disk or the process, which pass,
// from an operation's own "no".
func IsTrouble(err error) bool { return isDatabaseError(err) || errors.Is(err, ErrClosed) }

// translate maps what the driver says to the errors above; what it does not
// know stays wrapped, for the log.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	driver, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	if driver.Code() == sqlite3.SQLITE_IOERR_SHMSIZE { // no room for the file beside the WAL
		return fmt.Errorf("%w (%v)", ErrFull, err)
	}
	switch driver.Code() & 0xff { // the primary result code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w (%v)", ErrBusy, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w (%v)", ErrFull, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%w (%v)", ErrReadOnly, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w (%v)", ErrCorrupt, err)
	case sqlite3.SQLITE_CONSTRAINT:
		if driver.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || driver.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
			return fmt.Errorf("%w (%v)", ErrExists, err)
		}
		return fmt.Errorf("%w (%v)", errConstraint, err)
	}
	return err
}
