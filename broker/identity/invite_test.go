package identity

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type inviteFile struct {
	About  string            `json:"about"`
	Seeds  map[string]string `json:"seeds"`
	Cases  []inviteVector    `json:"cases"`
	Tokens []tokenVector     `json:"tokens"`
	Links  []linkVector      `json:"links"`
}

type inviteVector struct {
	vector
	Signer string `json:"signer,omitempty"` // whose signature libsodium is asked for
	Invite Invite `json:"invite"`
	Want   bool   `json:"want"`
}

type tokenVector struct {
	vector
	Token string `json:"token"`
	Want  string `json:"want"` // part of the error, "" when the token is that of the first case
}

type linkVector struct {
	vector
	Link  string `json:"link"`
	Token string `json:"token,omitempty"` // all three empty: refused
	Code  string `json:"code,omitempty"`
	Base  string `json:"base,omitempty"`
}

// ownersInvite is an invite that verifies.
func ownersInvite() Invite {
	i := Invite{
		V: 1, MeshID: "9JfKq2mXv4Rb7TzW8sYcL3pNa6", MeshSlug: "kitchen-table", BrokerURL: "wss://mesh.example.org/ws",
		ExpiresAt: at/1000 + 7*24*3600, MeshRootKey: "3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Role: "member",
	}
	i.Sign(key(owner))
	return i
}

type inviteBuilder struct {
	said answers
	file inviteFile
}

func (b *inviteBuilder) signed(name string, want bool, change func(*Invite)) {
	i := ownersInvite()
	change(&i)
	i.Sign(key(owner))
	b.add(name, owner, i, want)
}

// changed adds an invite that the owner signed and somebody changed afterwards.
func (b *inviteBuilder) changed(name string, change func(*Invite)) {
	i := ownersInvite()
	change(&i)
	b.add(name, "", i, false)
}

func (b *inviteBuilder) add(name, signer string, i Invite, want bool) {
	b.file.Cases = append(b.file.Cases, inviteVector{vector{Name: name, Libsodium: b.said[name]}, signer, i, want})
}

func inviteVectors(said answers) any {
	b := &inviteBuilder{said: said, file: inviteFile{
		About: "Invites, the tokens they travel in and the links people paste (protocol section 8). Of links, token or code and base are what is read from them; none means refused.",
		Seeds: seeds(owner, mallory),
	}}
	b.invites()
	b.forgeries()
	b.tokens()
	b.links()
	return b.file
}

func (b *inviteBuilder) invites() {
	b.signed("an invite", true, func(i *Invite) {})
	b.signed("an invite for an admin", true, func(i *Invite) { i.Role = "admin" })
	b.signed("an invite with empty texts", true, func(i *Invite) { i.MeshSlug, i.MeshRootKey = "", "" })
	b.signed("an invite outside ASCII", true, func(i *Invite) { i.MeshSlug = "küche <&> ☕" })
	b.signed("an invite that never ends", true, func(i *Invite) { i.ExpiresAt = 9007199254740991 })
	b.signed("an invite of version 2", false, func(i *Invite) { i.V = 2 })
	b.signed("an invite of version 0", false, func(i *Invite) { i.V = 0 })
	for _, c := range []struct {
		name   string
		change func(*Invite)
	}{
		{"mesh_id", func(i *Invite) { i.MeshID += "|x" }},
		{"mesh_slug", func(i *Invite) { i.MeshSlug += "|x" }},
		{"broker_url", func(i *Invite) { i.BrokerURL += "|x" }},
		{"mesh_root_key", func(i *Invite) { i.MeshRootKey += "|x" }},
		{"role", func(i *Invite) { i.Role = "member|admin" }},
	} {
		b.signed(c.name+" with |", false, c.change)
	}
}

func (b *inviteBuilder) forgeries() {
	for _, c := range []struct {
		name   string
		change func(*Invite)
	}{
		{"v", func(i *Invite) { i.V = 2 }},
		{"mesh_id", func(i *Invite) { i.MeshID = "another" }},
		{"mesh_slug", func(i *Invite) { i.MeshSlug = "another" }},
		{"broker_url", func(i *Invite) { i.BrokerURL = "wss://evil.example/ws" }},
		{"expires_at", func(i *Invite) { i.ExpiresAt++ }},
		{"mesh_root_key", func(i *Invite) { i.MeshRootKey = "AAAA" }},
		{"role", func(i *Invite) { i.Role = "admin" }},
		{"owner_pubkey", func(i *Invite) { i.OwnerPubKey = key(mallory).Public() }},
		{"R", func(i *Invite) { i.Signature = flipBit(i.Signature, 0) }},
		{"S", func(i *Invite) { i.Signature = flipBit(i.Signature, 32) }},
	} {
		b.changed("tampered "+c.name, c.change)
	}
	b.changed("text moved to the next field", func(i *Invite) {
		i.MeshSlug, i.BrokerURL = i.MeshSlug+"|"+i.BrokerURL, ""
	})
	for _, c := range malformedHex(key(owner).Public()) {
		b.changed("owner_pubkey "+c.name, func(i *Invite) { i.OwnerPubKey = c.hex })
	}
	for _, c := range malformedHex(ownersInvite().Signature) {
		b.changed("signature "+c.name, func(i *Invite) { i.Signature = c.hex })
	}
	forged := ownersInvite()
	forged.Signature = key(mallory).Sign(forged.Canonical())
	b.add("signed by another key", mallory, forged, false)
}

// tokenOf is the token of any text.
func tokenOf(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func (b *inviteBuilder) tokens() {
	token := ownersInvite().Token()
	without := func(field string) string {
		text, _ := base64.RawURLEncoding.DecodeString(token)
		return tokenOf(strings.Replace(string(text), `"`+field+`"`, `"no"`, 1))
	}
	text, _ := base64.RawURLEncoding.DecodeString(token)
	for _, c := range []struct{ name, token, want string }{
		{"as it is", token, ""},
		{"with white space around", " \t" + token + "\r\n", ""},
		{"with padding", token + "==", ""},
		{"with padding and white space", token + "= \n", ""},
		{"wrapped", token[:76] + "\r\n" + token[76:], ""},
		{"wrapped and indented", token[:76] + "\n    " + token[76:], ""},
		{"of JSON with white space", tokenOf(" {\n" + string(text[1:])), ""},
		{"of JSON with a field nobody knows", tokenOf(`{"extra":[1],` + string(text[1:])), ""},
		{"empty", "", "empty"},
		{"of white space", " \n", "empty"},
		{"of padding", "==", "empty"},
		{"in standard base64", "+/+/", "damaged"},
		{"cut off by a character", token[:len(token)-len(token)%4+1], "damaged"},
		{"cut off", token[:len(token)/8*4], "not contain an invite"},
		{"a link", "ic://join/" + token, "damaged"},
		{"of no JSON", tokenOf("hello"), "not contain an invite"},
		{"of JSON and more", tokenOf(string(text) + "x"), "not contain an invite"},
		{"of an array", tokenOf("[]"), "not contain an invite"},
		{"of null", tokenOf("null"), "version 0"},
		{"of an empty object", tokenOf("{}"), "version 0"},
		{"of version 2", tokenOf(`{"v":2}`), "version 2"},
		{"of a fractional time", tokenOf(`{"v":1,"expires_at":1.5}`), "not contain an invite"},
		{"without mesh_id", without("mesh_id"), "mesh_id"},
		{"without broker_url", without("broker_url"), "broker_url"},
		{"without owner_pubkey", without("owner_pubkey"), "owner_pubkey"},
		{"without signature", without("signature"), "signature"},
	} {
		b.file.Tokens = append(b.file.Tokens, tokenVector{vector{Name: "token " + c.name}, c.token, c.want})
	}
}

func (b *inviteBuilder) links() {
	const T, C = "eyJ2IjoxfQ", "aB3xY9kQ" // {"v":1}
	accept := func(link, token, code, base string) {
		b.file.Links = append(b.file.Links, linkVector{vector{Name: "link " + link}, link, token, code, base})
	}
	for _, link := range []string{
		T, T + "==", " " + T + "\n", T[:4] + "\n" + T[4:], "ic://join/" + T[:4] + "%0A" + T[4:], "ic://join/" + T, "IC://JOIN/" + T, "ic://join/" + T + "/", "ic://join/" + T + "==",
		"http://localhost:7777/join/" + T, "https://mesh.example.org/join/" + T, "https://mesh.example.org/a/b/join/" + T,
		"HTTPS://mesh.example.org/join/" + T + "/", "https://mesh.example.org/join/" + T + "?utm=1#x",
		"https://mesh.example.org/join/" + T + "%3D%3D", "\thttps://mesh.example.org/join/" + T + "\r\n",
	} {
		accept(link, T, "", "")
	}
	for _, c := range []struct{ link, base string }{
		{"http://localhost:7777/i/" + C, "http://localhost:7777"},
		{"https://mesh.example.org/i/" + C, "https://mesh.example.org"},
		{"https://mesh.example.org/a/b/i/" + C, "https://mesh.example.org/a/b"},
		{"https://mesh.example.org/a%2Fb/i/" + C, "https://mesh.example.org/a%2Fb"},
		{"https://mesh.example.org//i/" + C, "https://mesh.example.org"},
		{"https://mesh.example.org/i/" + C + "/?q", "https://mesh.example.org"},
		{"HTTP://[::1]:80/i/" + C, "http://[::1]:80"},
		{"http://[fe80::1%25eth0]/i/" + C, "http://[fe80::1%25eth0]"},
	} {
		accept(c.link, "", C, c.base)
	}
	for _, link := range []string{
		"", " ", "hello", C, "join/" + T, "mesh.example.org/join/" + T, "ic://" + T, "ic://join", "ic://join/", "ic://join/hello", "ic://leave/" + T,
		"ic://join/" + T + "/x", "ic:join/" + T, "ftp://mesh.example.org/join/" + T, "javascript://join/" + T, "https:///join/" + T, "https://:443/i/" + C,
		"https://mesh.example.org", "https://mesh.example.org/", "https://mesh.example.org/join", "https://mesh.example.org/join/", "https://mesh.example.org/" + T,
		"https://mesh.example.org/JOIN/" + T, "https://mesh.example.org/join/hello", "https://mesh.example.org/join/" + T + "/x", "https://mesh.example.org/i/" + C[1:],
		"https://mesh.example.org/i/" + C + "x", "https://mesh.example.org/i/aB3xY9k_", "https://mesh.example.org/i/aB3xY9%6", "https://example.org@evil.example/i/" + C,
		"https://user:secret@evil.example/join/" + T, "https://mesh example.org/join/" + T, "https://mesh.example.org/i/" + C + "\x00", "eyJ2\x00", "wss://mesh.example.org/ws",
	} {
		accept(link, "", "", "")
	}
}

func TestInviteVectors(t *testing.T) {
	for _, c := range loadVectors[inviteFile](t, "invite.json").Cases {
		t.Run(c.Name, func(t *testing.T) {
			if got := c.Invite.Verify(); got != c.Want {
				t.Errorf("verifies: %v, want %v", got, c.Want)
			}
			wantSigned(t, c.vector, c.Signer, c.Invite.Canonical(), c.Invite.OwnerPubKey, c.Invite.Signature)
			if c.Want {
				wantInvite(t, c.Invite.Token(), c.Invite)
				wantInvite(t, answer[signedAnswer](t, c.vector).Token, c.Invite)
			}
		})
	}
}

func wantInvite(t testing.TB, token string, want Invite) {
	t.Helper()
	if got, err := ParseToken(token); err != nil || got != want {
		t.Errorf("token %s\n got %+v (%v)\nwant %+v", token, got, err, want)
	}
}

func TestTokenVectors(t *testing.T) {
	file := loadVectors[inviteFile](t, "invite.json")
	for _, c := range file.Tokens {
		t.Run(c.Name, func(t *testing.T) {
			if c.Want == "" {
				wantInvite(t, c.Token, file.Cases[0].Invite)
				return
			}
			invite, err := ParseToken(c.Token)
			if err == nil || !strings.Contains(err.Error(), c.Want) {
				t.Errorf("got %v, want an error with %q", err, c.Want)
			}
			if invite != (Invite{}) {
				t.Errorf("an error came with the invite %+v", invite)
			}
		})
	}
}

// TestTokenLengthIsBounded: 8192 characters pass, one more does not.
func TestTokenLengthIsBounded(t *testing.T) {
	i := ownersInvite()
	for len(i.Token()) < maxTokenChars {
		i.MeshSlug += "x"
	}
	wantInvite(t, i.Token(), i)
	long := i
	long.MeshSlug += "xxx"
	if _, err := ParseToken(long.Token()); err == nil || !strings.Contains(err.Error(), "8192") {
		t.Errorf("got %v, want an error that names the limit", err)
	}
	if _, err := ParseLink("ic://join/" + i.Token()); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"ic://join/" + long.Token(), long.Token(), "http://h/" + strings.Repeat("x/", 1<<20) + "i/aB3xY9kQ"} {
		if _, err := ParseLink(s); err == nil {
			t.Errorf("a link of %d characters was accepted", len(s))
		}
	}
}

func TestLinkVectors(t *testing.T) {
	for _, c := range loadVectors[inviteFile](t, "invite.json").Links {
		t.Run(c.Name, func(t *testing.T) {
			want := Link{c.Token, c.Code, c.Base}
			got, err := ParseLink(c.Link)
			if got != want || (err == nil) != (want != Link{}) {
				t.Errorf("got %+v (%v), want %+v", got, err, want)
			}
			if err != nil {
				wantSaysWhatIsAccepted(t, err)
			}
		})
	}
}

func wantSaysWhatIsAccepted(t testing.TB, err error) {
	t.Helper()
	for _, form := range []string{"ic://join/<token>", "https://<host>/join/<token>", "https://<host>/i/", "token alone"} {
		if !strings.Contains(err.Error(), form) {
			t.Errorf("%q does not name %s", err, form)
		}
	}
}

// TestSignNamesTheOwner: whatever owner the invite named before.
func TestSignNamesTheOwner(t *testing.T) {
	i := ownersInvite()
	i.OwnerPubKey = key(mallory).Public()
	i.Sign(key(owner))
	if i.OwnerPubKey != key(owner).Public() || !i.Verify() {
		t.Errorf("owner %s, verifies %v", i.OwnerPubKey, i.Verify())
	}
}

// TestTokenIsVerifiedAsRead: of repeated names the one that was read is the one that was verified.
func TestTokenIsVerifiedAsRead(t *testing.T) {
	text, err := json.Marshal(ownersInvite())
	if err != nil {
		t.Fatal(err)
	}
	for _, smuggled := range []string{`"role":"admin"`, `"ROLE":"admin"`, `"Role":"admin"`} {
		i, err := ParseToken(tokenOf(strings.TrimSuffix(string(text), "}") + "," + smuggled + "}"))
		if err != nil {
			t.Fatal(err)
		}
		if i.Role == "admin" && i.Verify() {
			t.Errorf("%s made an admin of a member's invite", smuggled)
		}
	}
}

func TestCanonicalV2(t *testing.T) {
	got := CanonicalV2("mesh", "invite", 1767225600, "member", key(owner).Public())
	if want := "v=2|mesh|invite|1767225600|member|" + key(owner).Public(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestInviteSignedVerifies: what is signed verifies and survives its token, until any one field
// changes.
func TestInviteSignedVerifies(t *testing.T) {
	text := rapid.StringMatching(`[^|]{1,20}`)
	rapid.Check(t, func(t *rapid.T) {
		i := Invite{V: 1, MeshID: anyID.Draw(t, "mesh"), MeshSlug: text.Draw(t, "slug"), BrokerURL: text.Draw(t, "url"),
			ExpiresAt: rapid.Int64().Draw(t, "expires"), MeshRootKey: text.Draw(t, "root key"), Role: text.Draw(t, "role")}
		i.Sign(anyKey().Draw(t, "owner"))
		if !i.Verify() {
			t.Fatal("a signed invite does not verify")
		}
		if again, err := ParseToken(i.Token()); err != nil || again != i {
			t.Fatalf("token reads as %+v (%v), want %+v", again, err, i)
		}
		tampered := i
		fields := []*string{&tampered.MeshID, &tampered.MeshSlug, &tampered.BrokerURL, &tampered.MeshRootKey, &tampered.Role}
		*rapid.SampledFrom(fields).Draw(t, "field") = rapid.String().Draw(t, "text")
		if tampered != i && tampered.Verify() {
			t.Fatalf("signed %+v, yet %+v verifies", i, tampered)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	for _, c := range loadVectors[inviteFile](f, "invite.json").Tokens {
		f.Add(c.Token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		invite, err := ParseToken(token)
		if err != nil {
			if invite != (Invite{}) {
				t.Fatalf("an error came with the invite %+v", invite)
			}
			return
		}
		if again := invite.Token(); len(again) <= maxTokenChars { // JSON may spell a character in more bytes
			wantInvite(t, again, invite)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	for _, c := range loadVectors[inviteFile](f, "invite.json").Links {
		f.Add(c.Link)
	}
	f.Add("http://[::%25\xae]/i/00000000") // read, and then not read again
	f.Fuzz(func(t *testing.T, s string) {
		link, err := ParseLink(s)
		switch {
		case err != nil:
			wantSaysWhatIsAccepted(t, err)
			if link != (Link{}) {
				t.Fatalf("an error came with the link %+v", link)
			}
		case link.Token != "":
			wantLink(t, link.Token, link)
			wantLink(t, "ic://join/"+link.Token, link)
			wantLink(t, "https://host/join/"+link.Token, link)
		default:
			wantLink(t, link.Base+"/i/"+link.Code, link)
		}
	})
}

func wantLink(t *testing.T, s string, want Link) {
	t.Helper()
	if got, err := ParseLink(s); err != nil || got != want {
		t.Fatalf("%q reads as %+v (%v), want %+v", s, got, err, want)
	}
}
