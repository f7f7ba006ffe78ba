package broker

import (
	"encoding/json"
	"errors"
	"time"

	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// request is one message of a greeted connection that waits for its answer.
type request struct {
	*conn
	id string // its _reqId, "" if it carried none
}

// answer sends the direct response of a request.
func (r request) answer(m wire.Message) { r.send(m, r.id) }

// fail answers with an error.
func (r request) fail(code, message string) { r.answer(wire.NewError(code, message)) }

// done answers requests that the reference leaves without a response: only if
// the client can tell what the answer belongs to (protocol sections 7 and 10).
func (r request) done() {
	if r.id != "" {
		r.answer(&wire.Ack{ID: r.id, Queued: false})
	}
}

// handle decodes and answers one frame. It reports whether the connection goes
// on.
func (c *conn) handle(frame []byte) bool {
	m, kind, reqID, err := wire.DecodeRequest(frame)
	if c.presence == nil {
		return c.handleFirst(m, kind, reqID, err)
	}
	if err != nil {
		err.ID = sendID(kind, frame)
		return c.badFrame(err, reqID)
	}
	c.badFrames = 0
	c.dispatch(m, request{conn: c, id: reqID})
	return true
}

// handleFirst handles a frame before the hello.
func (c *conn) handleFirst(m wire.Message, kind, reqID string, err *wire.Error) bool {
	isHello := kind == (*wire.Hello)(nil).Type() || kind == (*wire.SessionHello)(nil).Type()
	switch {
	case isHello && err != nil:
		c.reject(&rejection{err: err, metric: err.Code}, reqID)
		return false
	case isHello:
		return c.hello(m, reqID)
	case err != nil && err.Code == wire.Malformed:
		return c.badFrame(err, reqID)
	}
	return c.badFrame(wire.NewError(wire.NoHello, "Say hello first: the first frame of a connection must be a hello or a session_hello."), reqID)
}

// sendID is the id of a send that could not be decoded, if that much could.
func sendID(kind string, frame []byte) string {
	var send struct {
		ID string `json:"id"`
	}
	if kind != (*wire.Send)(nil).Type() || json.Unmarshal(frame, &send) != nil {
		return ""
	}
	return send.ID
}

// badFrame answers a frame that cannot be handled; a client that sends nothing
// else is cut off.
func (c *conn) badFrame(err *wire.Error, reqID string) bool {
	c.send(err, reqID)
	c.badFrames++
	if c.badFrames < malformedRun {
		return true
	}
	c.b.metrics.dropped.WithLabelValues(wire.Malformed).Inc()
	c.end(wire.Malformed)
	return false
}

// capability names what a session must be allowed for each kind of message
// (protocol section 3); send depends on its target, see address.go, and
// apikey_create on what the key may do, see apikey.go.
func capability(m wire.Message) string {
	switch m.(type) {
	case *wire.SetStatus, *wire.SetSummary, *wire.SetProfile:
		return "profile-write"
	case *wire.SetGrants:
		return "grant"
	case *wire.Kick, *wire.Disconnect:
		return "kick"
	case *wire.Ban, *wire.Unban, *wire.ListBans:
		return "ban"
	case *wire.InviteCreate, *wire.InviteList, *wire.InviteRevoke, *wire.MemberList, *wire.MeshRename, *wire.AuditQuery, *wire.AuditVerify:
		return capAdmin
	}
	return ""
}

// capAdmin is what a session needs to run the mesh (wire/mesh.go).
const capAdmin = "admin"

// countsAsSend reports requests that count against the rate of a member as its
// sends do: those that stay in the audit chain for ever, as it could fill the disk
// with them, and searches, as they are long.
func countsAsSend(m wire.Message) bool {
	switch m.(type) {
	case *wire.TopicSearch:
		return true
	case *wire.SetGrants, *wire.TopicCreate, *wire.TopicJoin, *wire.TopicLeave, *wire.TopicInvite, *wire.TopicDescribe,
		*wire.InviteCreate, *wire.InviteRevoke, *wire.MeshRename, *wire.APIKeyCreate, *wire.APIKeyRevoke, *wire.CreateWebhook, *wire.DeleteWebhook:
		return true
	}
	return false
}

// dispatch checks what a message needs, and hands it to its method.
func (c *conn) dispatch(m wire.Message, r request) {
	switch m := m.(type) { // the hot ones need no barrier
	case *wire.Send:
		c.handleSend(m, r)
		return
	case *wire.ClientAck:
		c.handleClientAck(m)
		return
	}
	c.pending.Wait() // what a client sent before is stored when its request is answered
	if missing := capability(m); missing != "" && !c.presence.caps.Allows(missing) {
		r.fail(wire.Forbidden, missingCapability(missing))
		return
	}
	if countsAsSend(m) {
		if err := c.b.rates.take(c.presence.member.ID, time.Now()); err != nil {
			r.fail(wire.RateLimit, err.Error())
			return
		}
	}
	r.route(m)
}

// route hands a message to its method, part by part of the protocol.
func (r request) route(m wire.Message) {
	switch m := m.(type) {
	case *wire.Hello, *wire.SessionHello:
		r.fail(wire.AlreadyGreeted, "This connection said hello already; open another one for another identity.")
	case *wire.ListPeers:
		r.answer(&wire.PeersList{Peers: r.b.peers(r.presence)})
	case *wire.MessageStatus:
		r.messageStatus(m)
	case *wire.DeliverySubscribe:
		r.deliverySubscribe(m)
	case *wire.SetGrants:
		r.setGrants(m)
	case *wire.GetGrants:
		r.getGrants()
	case *wire.SetStatus:
		r.setStatus(m)
	case *wire.SetSummary:
		r.setSummary(m)
	case *wire.SetVisible:
		r.setVisible(m)
	case *wire.SetProfile:
		r.setProfile(m)
	case *wire.SetStats:
		r.setStats(m)
	case *wire.JoinGroup:
		r.joinGroup(m)
	case *wire.LeaveGroup:
		r.leaveGroup(m)
	default:
		r.routeTopic(m)
	}
}

func (r request) routeTopic(m wire.Message) {
	switch m := m.(type) {
	case *wire.TopicCreate:
		r.topicCreate(m)
	case *wire.TopicList:
		r.topicList()
	case *wire.TopicJoin:
		r.topicJoin(m)
	case *wire.TopicLeave:
		r.topicLeave(m)
	case *wire.TopicInvite:
		r.topicInvite(m)
	case *wire.TopicMarkRead:
		r.topicMarkRead(m)
	case *wire.TopicMembers:
		r.topicMembers(m)
	case *wire.TopicHistory:
		r.topicHistory(m)
	case *wire.TopicDescribe:
		r.topicDescribe(m)
	case *wire.TopicSearch:
		r.topicSearch(m)
	case *wire.TopicReceipts:
		r.topicReceipts(m)
	default:
		r.routeMesh(m)
	}
}

func (r request) routeMesh(m wire.Message) {
	switch m := m.(type) {
	case *wire.Disconnect:
		r.disconnect(m)
	case *wire.Kick:
		r.kick(m)
	case *wire.Ban:
		r.ban(m)
	case *wire.Unban:
		r.unban(m)
	case *wire.ListBans:
		r.listBans()
	case *wire.InviteCreate:
		r.inviteCreate(m)
	case *wire.InviteList:
		r.inviteList()
	case *wire.InviteRevoke:
		r.inviteRevoke(m)
	case *wire.MemberList:
		r.memberList()
	case *wire.MeshRename:
		r.meshRename(m)
	case *wire.AuditQuery:
		r.auditQuery(m)
	case *wire.AuditVerify:
		r.auditVerify()
	case *wire.APIKeyCreate:
		r.apiKeyCreate(m)
	case *wire.APIKeyList:
		r.apiKeyList()
	case *wire.APIKeyRevoke:
		r.apiKeyRevoke(m)
	case *wire.CreateWebhook:
		r.createWebhook(m)
	case *wire.DeleteWebhook:
		r.deleteWebhook(m)
	case *wire.ListWebhooks:
		r.listWebhooks()
	}
}

func missingCapability(name string) string { return `missing session capability "` + name + `"` }

// storeFailed answers a request that the store could not do, and logs why.
func (r request) storeFailed(err error) {
	r.log.Error("request failed", "err", err)
	if errors.Is(err, store.ErrBusy) || errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrClosed) {
		r.fail(wire.Busy, "The broker can not write to its data file at the moment; try again later.")
		return
	}
	r.fail(wire.Internal, "The broker could not do this; its log says why.")
}
