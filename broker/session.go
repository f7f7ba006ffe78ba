package broker

import (
	"errors"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// A session key is kept by the store once it sent a message or lived for
// rememberAfter: the one-shot commands that come and go many times a minute
// would fill the table with keys nobody will ever write to.

// rememberLater keeps the session key of p if its connection lives on.
func (c *conn) rememberLater(p *presence) {
	if p.sessionKey == "" || p.kept {
		return
	}
	c.remember = time.AfterFunc(rememberAfter, func() { c.b.rememberKey(p) })
}

// rememberKey keeps the session key of p, and its state so far. A failure is
// logged and costs no more than that a message to the key alone finds nobody
// after it left.
func (b *Broker) rememberKey(p *presence) {
	err := b.db.RememberSessionKey(p.meshID, p.sessionKey, p.member.ID, p.proven, time.Now())
	switch {
	case errors.Is(err, store.ErrExists):
		p.conn.end(wire.BadSessionPubkey)
	case err != nil:
		b.log.Warn("session key not remembered", "member", p.member.ID, "err", err)
	default:
		b.saveState(p)
	}
}

// saveState saves what others see of p now.
func (b *Broker) saveState(p *presence) {
	b.mu.RLock()
	state := p.state(time.Now())
	b.mu.RUnlock()
	b.keepState(p, state)
}
