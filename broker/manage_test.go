package broker

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/store"
	"meshbox/broker/wire"
)

// arriveAdmin joins as an admin who wants mesh events, and connects.
func (h *house) arriveAdmin(name string) *guest {
	h.t.Helper()
	id, err := peer.Join(h.t.Context(), h.url+"/join/"+h.invite(InviteTerms{Role: store.RoleAdmin}).Token, name, identity.NewKey())
	if err != nil {
		h.t.Fatal(err)
	}
	return h.dial(id, peer.Options{Client: wire.Client{Capabilities: []string{wire.CapMeshEvents}}})
}

// invites asks for all of them.
func (g *guest) invites() []wire.Invite {
	g.t.Helper()
	return ask[*wire.InviteListResponse](g, &wire.InviteList{}).Invites
}

func TestAnAdminInvitesAndSeesWhoJoined(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	made := ask[*wire.InviteCreated](adam, &wire.InviteCreate{Label: "for the \u202eteam", Uses: 2, TTLSeconds: 3600}).Invite
	expires, err := time.Parse(time.RFC3339, made.ExpiresAt)
	if err != nil || time.Until(expires) > time.Hour || time.Until(expires) < 59*time.Minute {
		t.Errorf("it expires at %s, %v", made.ExpiresAt, err)
	}
	if made.State != store.InviteOpen || made.Role != store.RoleMember || made.Label != "for the team" || made.MaxUses != 2 || len(made.Joined) != 0 ||
		made.ShortLink != h.url+"/i/"+made.Code || !strings.HasPrefix(made.Link, h.url+"/join/ey") || len(made.QR) < 21 || len(made.QR[0]) != len(made.QR) {
		t.Errorf("made: %+v", made)
	}
	adam.wantChange(wire.ChangedInvites)
	for _, name := range []string{"bea", "carl"} {
		if _, err := peer.Join(t.Context(), made.ShortLink, name, identity.NewKey()); err != nil {
			t.Fatal(err)
		}
		adam.wantChange(wire.ChangedInvites)
	}
	used := adam.invites()[0]
	if used.ID != made.ID || used.State != store.InviteUsedUp || used.Uses != 2 || len(used.Joined) != 2 || used.Joined[0].Name != "bea" || used.Joined[1].Name != "carl" {
		t.Errorf("used: %+v", used)
	}
	if used.Code+used.Link+used.ShortLink != "" || used.QR != nil {
		t.Errorf("an invite that lets nobody in still has its links: %+v", used)
	}
	audited := ask[*wire.AuditResult](adam, &wire.AuditQuery{EventType: store.EventInviteCreated}).Entries[0]
	if audited.Actor != adam.id.Key.Public() || !strings.Contains(string(audited.Payload), `"by":"adam"`) || strings.Contains(string(audited.Payload), made.Code) {
		t.Errorf("audited: %+v %s", audited, audited.Payload)
	}
}

func TestAnInviteCanBeWithdrawn(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	byID := ask[*wire.InviteCreated](adam, &wire.InviteCreate{Role: store.RoleAdmin}).Invite
	byCode := ask[*wire.InviteCreated](adam, &wire.InviteCreate{}).Invite
	ask[*wire.Ack](adam, &wire.InviteRevoke{ID: byID.ID})
	ask[*wire.Ack](adam, &wire.InviteRevoke{ID: byCode.Code})
	ask[*wire.Ack](adam, &wire.InviteRevoke{ID: byCode.Code}) // twice is once
	for _, link := range []string{byID.Link, byCode.ShortLink} {
		if _, err := peer.Join(t.Context(), link, "late", identity.NewKey()); err == nil || !strings.Contains(err.Error(), "withdrawn") {
			t.Errorf("joining by a withdrawn invite: %v", err)
		}
	}
	for _, i := range adam.invites()[:2] {
		if i.State != store.InviteRevoked || i.Link != "" {
			t.Errorf("%+v", i)
		}
	}
	adam.wantRefused(&wire.InviteRevoke{ID: "nowhere1"}, wire.NotFound)
	adam.wantRefused(&wire.InviteRevoke{}, wire.NotFound)
	if withdrawn := ask[*wire.AuditResult](adam, &wire.AuditQuery{EventType: store.EventInviteRevoked}); withdrawn.Total != 2 {
		t.Errorf("%d withdrawals are in the audit chain, want 2", withdrawn.Total)
	}
}

// The first link makes its user the owner: an admin neither sees nor ends it.
func TestTheFirstLinkIsNotForAdmins(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	mesh, err := h.db.OwnerInvite(t.Context(), h.mesh.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range adam.invites() {
		if i.ID == mesh.ID {
			t.Errorf("the first link is listed: %+v", i)
		}
	}
	adam.wantRefused(&wire.InviteRevoke{ID: mesh.ID}, wire.NotFound)
}

func TestInviteTermsAreChecked(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	for _, m := range []wire.InviteCreate{{Role: "owner"}, {Uses: -1}, {Uses: 1001}, {TTLSeconds: 59}, {TTLSeconds: -1}, {TTLSeconds: 1 << 40}} {
		adam.wantRefused(&m, wire.InvalidArgs)
	}
	week := ask[*wire.InviteCreated](adam, &wire.InviteCreate{}).Invite
	if expires, err := time.Parse(time.RFC3339, week.ExpiresAt); err != nil || time.Until(expires) < 6*24*time.Hour || week.MaxUses != 1 {
		t.Errorf("by default: %+v", week)
	}
}

func TestOnlyWhoRunsTheMeshMayManageIt(t *testing.T) {
	h := newHouse(t)
	adam, bob := h.arriveAdmin("adam"), h.arrive("bob")
	invite := ask[*wire.InviteCreated](adam, &wire.InviteCreate{}).Invite
	session := func(caps ...string) *guest {
		return h.dial(adam.id, peer.Options{Session: identity.NewKey(), AllowedCaps: caps})
	}
	requests := []wire.Message{&wire.InviteCreate{}, &wire.InviteList{}, &wire.InviteRevoke{ID: invite.ID}, &wire.MemberList{}, &wire.MeshRename{Name: "mine"}}
	for _, m := range requests {
		bob.wantRefused(m, wire.Forbidden)
		session("dm", "ban", "kick", "grant").wantRefused(m, wire.Forbidden)
	}
	if ask[*wire.InviteListResponse](session("admin"), &wire.InviteList{}).Invites == nil {
		t.Error("a session with the capability admin got no list")
	}
	h.revoke(adam.id) // an admin who was revoked a moment ago does nothing more
	for _, m := range requests {
		if answer, err := adam.Request(t.Context(), m); err == nil {
			t.Errorf("%s of a revoked admin: %+v", m.Type(), answer)
		}
	}
}

func TestAnAdminSeesAllMembers(t *testing.T) {
	h := newHouse(t)
	olga, err := peer.Join(t.Context(), h.url+"/join/"+h.first, "olga", identity.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	adam, bob, eve := h.arriveAdmin("adam"), h.arrive("bob"), h.join("eve")
	ask[*wire.BanAck](adam, &wire.Ban{Target: eve.Key.Public()})
	adam.wantChange(wire.ChangedMembers)
	status, _ := h.post("/invites/"+h.invite(InviteTerms{}).Code+"/claim", map[string]any{"recipient_x25519_pubkey": strings.Repeat("B", 43), "display_name": "place"})
	if status != 200 {
		t.Fatalf("claim: %d", status)
	}
	members := map[string]wire.MemberInfo{}
	for _, m := range ask[*wire.MemberListResponse](adam, &wire.MemberList{}).Members {
		members[m.DisplayName] = m
	}
	if len(members) != 4 {
		t.Errorf("%d members, want 4: a place that waits for its key is none", len(members))
	}
	if m := members["olga"]; m.Role != store.RoleOwner || m.Online || m.LastSeenAt != nil || m.Pubkey != olga.Key.Public() {
		t.Errorf("olga: %+v", m)
	}
	if m := members["bob"]; m.Role != store.RoleMember || !m.Online || m.LastSeenAt == nil || m.RevokedAt != nil || m.MemberID != bob.id.MemberID {
		t.Errorf("bob: %+v", m)
	}
	if m := members["eve"]; m.RevokedAt == nil || m.Online {
		t.Errorf("eve: %+v", m)
	}
}

func TestAMeshIsRenamed(t *testing.T) {
	h := newHouse(t)
	if err := h.db.CreateMesh(NewMesh("lab", h.url, time.Now())); err != nil {
		t.Fatal(err)
	}
	adam := h.arriveAdmin("adam")
	before := ask[*wire.InviteCreated](adam, &wire.InviteCreate{}).Invite
	for _, name := range []string{"", "-x", "Ä", "a b", strings.Repeat("x", 32), "lab"} {
		adam.wantRefused(&wire.MeshRename{Name: name}, wire.InvalidArgs)
	}
	ask[*wire.Ack](adam, &wire.MeshRename{Name: "workshop"})
	if change := adam.wantChange(wire.ChangedMesh); change.MeshName != "workshop" {
		t.Errorf("who is here is told %+v", change)
	}
	ask[*wire.Ack](adam, &wire.MeshRename{Name: "workshop"}) // twice is once
	late, err := peer.Join(t.Context(), before.Link, "late", identity.NewKey())
	if err != nil {
		t.Fatalf("joining by a link from before: %v", err)
	}
	asked := peer.Options{Client: wire.Client{Capabilities: []string{wire.CapMeshEvents}}}
	if ack := h.dial(late, asked).Hello; ack.MeshName != "workshop" {
		t.Errorf("who comes is told %q", ack.MeshName)
	}
	renamed := ask[*wire.AuditResult](adam, &wire.AuditQuery{EventType: store.EventMeshRenamed})
	if renamed.Total != 1 || !strings.Contains(string(renamed.Entries[0].Payload), `"from":"home"`) {
		t.Errorf("audited: %+v", renamed)
	}
	if verdict := ask[*wire.AuditVerifyResult](adam, &wire.AuditVerify{}); !verdict.Valid {
		t.Errorf("the audit chain is broken at %s", verdict.BrokenAt)
	}
}

// Links begin with what --public-url says, also behind a proxy.
func TestLinksOfInvitesLeadHere(t *testing.T) {
	h := newHouse(t)
	made := ask[*wire.InviteCreated](h.arriveAdmin("adam"), &wire.InviteCreate{}).Invite
	link, err := url.Parse(made.ShortLink)
	if err != nil || link.Scheme+"://"+link.Host != h.url {
		t.Errorf("short link %s, %v; want one below %s", made.ShortLink, err, h.url)
	}
}

// A banned admin must not come back by an invite that it made itself.
func TestABanWithdrawsInvites(t *testing.T) {
	h := newHouse(t)
	adam, mallory := h.arriveAdmin("adam"), h.arriveAdmin("mallory")
	own := ask[*wire.InviteCreated](mallory, &wire.InviteCreate{Role: store.RoleAdmin, Uses: 1000}).Invite
	other := ask[*wire.InviteCreated](adam, &wire.InviteCreate{}).Invite
	ask[*wire.BanAck](adam, &wire.Ban{Target: mallory.id.Key.Public()})
	adam.wantChange(wire.ChangedInvites)
	if _, err := peer.Join(t.Context(), own.Link, "mallory again", identity.NewKey()); err == nil {
		t.Error("an invite of a banned admin lets somebody in")
	}
	if _, err := peer.Join(t.Context(), other.Link, "bea", identity.NewKey()); err != nil {
		t.Errorf("an invite of somebody else: %v", err)
	}
	withdrawn := ask[*wire.AuditResult](adam, &wire.AuditQuery{EventType: store.EventInviteRevoked})
	if withdrawn.Total != 1 || withdrawn.Entries[0].Actor != adam.id.Key.Public() {
		t.Errorf("audited: %+v", withdrawn)
	}
	ask[*wire.UnbanAck](adam, &wire.Unban{Target: mallory.id.Key.Public()})
	if _, err := peer.Join(t.Context(), own.Link, "mallory's friend", identity.NewKey()); err == nil {
		t.Error("an invite that was withdrawn works again")
	}
}

func TestWithdrawingAnInviteEndsPlacesThatWereClaimedByIt(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	made := ask[*wire.InviteCreated](adam, &wire.InviteCreate{}).Invite
	_, claimed := h.post("/invites/"+made.Code+"/claim", map[string]any{"recipient_x25519_pubkey": strings.Repeat("B", 43), "display_name": "place"})
	ask[*wire.Ack](adam, &wire.InviteRevoke{ID: made.ID})
	id := peer.Identity{MeshID: h.mesh.ID, MemberID: claimed["member_id"].(string), Key: identity.NewKey(), BrokerURL: BrokerURL(h.url), DisplayName: "late"}
	if c, err := peer.Dial(t.Context(), peer.Options{Identity: id}); err == nil {
		c.Close()
		t.Error("a place claimed by a withdrawn invite can still be taken")
	}
}

// However many there were, those that still let somebody in are listed.
func TestOpenInvitesAreListedFirst(t *testing.T) {
	h := newHouse(t)
	adam := h.arriveAdmin("adam")
	open := ask[*wire.InviteCreated](adam, &wire.InviteCreate{}).Invite
	for range wire.MaxInvites {
		made := h.invite(InviteTerms{})
		if _, _, err := h.db.RevokeInvite(h.mesh.ID, "", made.ID, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if invites := adam.invites(); len(invites) != wire.MaxInvites || invites[0].ID != open.ID {
		t.Errorf("%d invites, the first is %+v", len(invites), invites[0])
	}
}

// What one may not see, one is not told of either.
func TestNobodyIsToldWhatTheyMayNotSee(t *testing.T) {
	h := newHouse(t)
	adam, spy, shy := h.arriveAdmin("adam"), h.watching("spy"), h.join("shy")
	first := h.dial(shy, peer.Options{})
	ask[*wire.Ack](first, &wire.SetVisible{Visible: false})
	first.Close()
	for range 3 {
		time.Sleep(2 * changeDelay)
		spy.drain()
	}
	hidden := h.dial(shy, peer.Options{})
	ask[*wire.Ack](hidden, &wire.SetStatus{Status: wire.StatusWorking})
	ask[*wire.TopicCreated](hidden, &wire.TopicCreate{Name: "secret", Visibility: wire.VisibilityPrivate})
	ask[*wire.InviteCreated](adam, &wire.InviteCreate{})
	adam.wantChange(wire.ChangedInvites)
	spy.wantNoChange()
	for _, m := range ask[*wire.MemberListResponse](adam, &wire.MemberList{}).Members {
		if m.DisplayName == "shy" && m.Online {
			t.Error("an admin is told that a hidden member is here")
		}
	}
}

// A session does as an admin only what its attestation allows.
func TestARestrictedSessionOfAnAdmin(t *testing.T) {
	h := newHouse(t)
	adam, ann := h.arriveAdmin("adam"), h.arrive("ann")
	ask[*wire.TopicCreated](ann, &wire.TopicCreate{Name: "deploys"})
	session := h.dial(adam.id, peer.Options{Session: identity.NewKey(), AllowedCaps: []string{"dm"}, Client: wire.Client{Capabilities: []string{wire.CapMeshEvents}}})
	if role := session.Hello.MemberRole; role != store.RoleMember {
		t.Errorf("it is told that it is %s", role)
	}
	for _, m := range []wire.Message{&wire.TopicDescribe{Topic: "deploys", Description: "x"}, &wire.AuditQuery{}, &wire.AuditVerify{}, &wire.ListBans{}} {
		session.wantRefused(m, wire.Forbidden)
	}
}
