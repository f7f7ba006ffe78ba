package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// The web chat in a real browser, with the built program behind it.

// house is a meshbox in a folder of its own, and a page in it: that of Olga, who
// owns the mesh.
type house struct {
	*server
	program string
	folder  string
	page    context.Context

	historian *peer.Conn // of history
}

// newHouse starts one. Nobody has to wait for the rate limit of messages.
func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{page: chromium(t), program: build(t), folder: t.TempDir()}
	h.server = start(t, h.program, h.folder, "127.0.0.1:0", "--send-rate", "0")
	do(t, h.page, enter(h.link, "Olga"))
	return h
}

func (h *house) db() string { return filepath.Join(h.folder, "meshbox.db") }

// invite makes a short link.
func (h *house) invite(flags ...string) string {
	h.t.Helper()
	return shortLink(h.t, h.program, h.db(), flags...)
}

// guest opens another browser and joins as name.
func (h *house) guest(name string) context.Context {
	h.t.Helper()
	page := chromium(h.t)
	do(h.t, page, enter(h.invite(), name))
	return page
}

// agent joins with "meshbox join" and connects.
func (h *house) agent(name string) *peer.Conn {
	h.t.Helper()
	return agent(h.t, h.program, h.t.TempDir(), h.db(), name)
}

// joins makes a member without connecting it.
func (h *house) joins(name string) peer.Identity {
	h.t.Helper()
	return joins(h.t, h.program, h.t.TempDir(), h.db(), name)
}

// said has an agent post a text, and returns the message's id.
func said(t *testing.T, c *peer.Conn, topic, text string) string {
	t.Helper()
	return posted(t, c, wire.Send{TargetSpec: "#" + topic, Priority: wire.PriorityNext, Ciphertext: base64.StdEncoding.EncodeToString([]byte(text)), BodyVersion: 1})
}

func posted(t *testing.T, c *peer.Conn, m wire.Send) string {
	t.Helper()
	ack, err := c.Send(t.Context(), m)
	if err != nil || !ack.Queued {
		t.Fatalf("ack %+v, %v", ack, err)
	}
	return ack.MessageID
}

// asked sends a request that is answered by an ack or the like.
func asked(t *testing.T, c *peer.Conn, m wire.Message) wire.Message {
	t.Helper()
	answer, err := c.Request(t.Context(), m)
	if err != nil {
		t.Fatalf("%s: %v", m.Type(), err)
	}
	return answer
}

// wantText waits for a message with this text.
func wantText(t *testing.T, c *peer.Conn, text string) *wire.Push {
	t.Helper()
	for {
		select {
		case push := <-c.Pushes():
			if push.Subtype == "system" {
				continue
			}
			if got, err := c.Text(push); err != nil || got != text {
				t.Fatalf("got %q, %v; want %q", got, err, text)
			}
			return push
		case <-time.After(patience):
			t.Fatalf("%q did not arrive", text)
		}
	}
}

func TestPersonAndAgentTalkInGeneral(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	do(t, h.page, says("hello, is anybody here?"), sees("Olga", "hello, is anybody here?"))
	push := wantText(t, claude, "hello, is anybody here?")
	if push.SenderName != "Olga" || push.Topic != wire.General || push.SenderPeerType != wire.PeerHuman {
		t.Errorf("push = %+v", push)
	}
	said(t, claude, "general", "yes, me: **claude** <b>here</b>")
	do(t, h.page, sees("claude", "yes, me: claude <b>here</b>"), shows(".message-text strong", "claude"))
	do(t, h.page, chromedp.Reload(), chromedp.WaitVisible(composer),
		sees("Olga", "hello, is anybody here?"), sees("claude", "yes, me: claude <b>here</b>"))
	location, focused := get(t, h.page, chromedp.Location()), js[string](t, h.page, `document.activeElement.id`)
	if strings.Contains(location, "/join/") || focused != "composer" {
		t.Errorf("location %s, focus on %q", location, focused)
	}
	owner := run(t, h.program, "mesh", "list", "--db", h.db())
	if !strings.Contains(owner, "Olga") {
		t.Errorf("mesh list does not name the owner:\n%s", owner)
	}
}

func TestTwoBrowsersTalk(t *testing.T) {
	h := newHouse(t)
	adam := h.guest("Adam Lovelace")
	do(t, h.page, shows("#people", "Adam Lovelace"), says("shall we?"), sees("Olga", "shall we?"))
	// A reply, by its button, quotes what it answers and leads there.
	do(t, adam, sees("Olga", "shall we?"), chromedp.Focus(css(".message")), click(`.actions [aria-label^="Reply"]`),
		shows("#reply-text", "Replying to Olga: shall we?"), says("yes, @olga"))
	do(t, h.page, shows(".quote", "Olga"), shows(".mentions-me .mention.me", "@olga"), click(".quote"),
		until(`() => document.activeElement.querySelector(".message-text").textContent === "shall we?"`))
	// The ledger says how far a message got: to Adam's page, and before his eyes.
	do(t, h.page, chromedp.Focus(composer), says("now?"), shows(".receipt", "Seen by 1 of 1"),
		focusOn(".receipt"), shows("#receipt-window", "Seen byAdam Lovelace"))
	// A name with a space in it is suggested, and mentions its member.
	do(t, h.page, write("#composer", "over to @ad"), shows("#names [aria-selected=true]", "Adam Lovelace"), key("Enter"), types("then"), key("Enter"),
		shows(".mention", "@Adam Lovelace"))
	do(t, adam, shows(".mentions-me", "over to @Adam Lovelace then"))
}

func TestTopicsHaveTheirOwnUnread(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	do(t, h.page, click("#topic-new"), write(`dialog [name=name]`, "Deploys"), write(`dialog [name=description]`, "What went out"), click("dialog .primary"),
		shows("#topic-button", "#deploys"), shows("#topic-description", "What went out"), shows("#beginning-title", "#deploys"), says("v1 is out"), sees("Olga", "v1 is out"))
	asked(t, claude, &wire.TopicJoin{Topic: "deploys"})
	do(t, h.page, key("ArrowUp", alt), shows("#topic-button", "#general"))
	first := said(t, claude, "deploys", "v2 is out, @olga")
	said(t, claude, "deploys", "v3 is out")
	do(t, h.page, shows(`#topics [data-topic=deploys] .count`, "@1"), until(`() => document.title.startsWith("(@2) #general")`))
	// Opening it shows the line above what is new, and then nothing is unread.
	do(t, h.page, click(`#topics [data-topic=deploys] a`), shows(".divider.new", "New"),
		until(`(id) => document.querySelector(".divider.new").nextElementSibling.dataset.messageId === id`, first),
		gone(`#topics .count`), until(`() => document.title.startsWith("#deploys")`))
	eventuallyTopic(t, claude, "deploys", func(topic wire.TopicInfo) bool { return topic.MemberCount == 2 })
	// Another browser reads along, joins, and is told what is new elsewhere.
	adam := h.guest("Adam")
	do(t, adam, click(`#other-topics [data-topic=deploys] a`), sees("claude", "v3 is out"), gone("#compose-form"), click("#join-topic-button"), chromedp.WaitVisible(composer),
		says("me too"), click(`#topics [data-topic=general] a`))
	do(t, h.page, sees("Adam", "me too"), click("#topic-button"), shows(".topic-members", "3 members"), write(`dialog [name=description]`, " in production"), click("dialog form .primary"),
		shows("dialog form .primary", "Saved"))
	do(t, h.page, key("Escape"), shows("#topic-description", "What went out in production"))
	do(t, h.page, click("#topic-button"), click("dialog .leave"), click("dialog .danger"), shows("#topic-button", "#general"), shows("#other-topics", "deploys"))
	said(t, claude, "deploys", "who is here?")
	said(t, claude, "general", "and here?")
	do(t, h.page, sees("claude", "and here?"), gone(`#topics .count`))
	// A name that is taken, and one that is not.
	do(t, h.page, click("#topic-new"), write(`dialog [name=name]`, "deploys"), key("Enter"), shows("dialog .error", "There is a topic #deploys already."), key("Escape"),
		chromedp.Navigate(h.url+"/#/nowhere"), shows("#placeholder", "There is no topic #nowhere here"), gone("#compose-form"))
}

func eventuallyTopic(t *testing.T, c *peer.Conn, name string, ok func(wire.TopicInfo) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, topic := range asked(t, c, &wire.TopicList{}).(*wire.TopicListResponse).Topics {
			if topic.Name == name && ok(topic) {
				return
			}
		}
	}
	t.Fatalf("#%s did not get so far", name)
}

// history posts n messages, "step 0" and so on, and returns their ids.
func (h *house) history(n int) (ids []string) {
	h.t.Helper()
	h.historian = h.agent("historian")
	for i := range n {
		ids = append(ids, said(h.t, h.historian, "general", fmt.Sprintf("step %d", i)))
	}
	return ids
}

// wantSeen waits until the broker knows that a member has read a message of c.
func wantSeen(t *testing.T, c *peer.Conn, id, name string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, copied := range asked(t, c, &wire.MessageStatus{MessageID: id}).(*wire.MessageStatusResult).Recipients {
			if copied.Name == name && copied.Seen {
				return
			}
		}
	}
	t.Fatalf("%s has not read %s", name, id)
}

// Who was away for long goes on where it was left, and may go to the end at once.
func TestAfterAnAbsenceOneGoesOnWhereOneLeft(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	wantSeen(t, claude, said(t, claude, "general", "see you"), "Olga")
	do(t, h.page, chromedp.Navigate("about:blank"))
	ids := h.history(300)
	do(t, h.page, chromedp.Navigate(h.url), shows(".divider.new", "New"), shows("#jump", "300 new messages"),
		until(`(id) => document.querySelector(".divider.new").nextElementSibling.dataset.messageId === id`, ids[0]),
		until(`() => { const line = document.querySelector(".divider.new").getBoundingClientRect(); return line.top >= 0 && line.top < 400; }`))
	do(t, h.page, shows("#topics .count", "99+"), click("#jump"), sees("historian", "step 299"), gone("#topics .count"), gone("#jump"))
	// What comes while one looks elsewhere is not read because it is on the page.
	do(t, h.page, chromedp.Evaluate[chromedp.Void](`document.hasFocus = () => false; dispatchEvent(new Event("blur"))`))
	for i := range 40 {
		said(t, claude, "general", fmt.Sprintf("meanwhile %d", i))
	}
	do(t, h.page, sees("claude", "meanwhile 39"), shows("#topics .count", "40"), until(`() => document.title.startsWith("(40)")`),
		chromedp.Evaluate[chromedp.Void](`document.hasFocus = () => true; dispatchEvent(new Event("focus"))`), shows(".divider.new", "New"), shows("#jump", "40 new messages"),
		until(`() => document.querySelector(".divider.new").nextElementSibling.textContent.includes("meanwhile 0")`), click("#jump"), gone("#topics .count"))
}

// What is said while a page has no connection is not read because it was open.
func TestWhatWasMissedIsNotRead(t *testing.T) {
	h := newHouse(t)
	address := strings.TrimPrefix(h.url, "http://localhost")
	claude := h.agent("claude")
	for round := range 2 {
		wantSeen(t, claude, said(t, claude, "general", fmt.Sprintf("before %d", round)), "Olga")
		h.kill()
		h.server = start(t, h.program, h.folder, "127.0.0.1:0", "--send-rate", "0") // where the page does not look
		claude = h.agent(fmt.Sprintf("claude-%d", round))
		var ids []string
		for i := range 40 {
			ids = append(ids, said(t, claude, "general", fmt.Sprintf("missed %d", i)))
		}
		h.kill()
		h.server = start(t, h.program, h.folder, "127.0.0.1"+address, "--send-rate", "0")
		do(t, h.page, shows("#connection", "Connected"), shows("#jump", "40 new messages"), shows("#topics .count", "40"),
			until(`(id) => document.querySelector(".divider.new")?.nextElementSibling.dataset.messageId === id`, ids[0]))
		claude = h.agent(fmt.Sprintf("later-%d", round))
		do(t, h.page, click("#jump"), gone("#topics .count"))
	}
	// Who follows a link to what is in sight goes on reading.
	last := said(t, claude, "general", "the last word")
	do(t, h.page, sees("later-1", "the last word"), chromedp.Evaluate[chromedp.Void](fmt.Sprintf("location.hash = '#/general/%s'", last)), until(`() => document.activeElement.textContent.includes("the last word")`))
	wantSeen(t, claude, said(t, claude, "general", "or not"), "Olga")
}

// A topic nobody has read is not read because it was opened.
func TestATopicThatWasNeverRead(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	do(t, h.page, click("#topic-new"), write(`dialog [name=name]`, "log"), key("Enter"), shows("#topic-button", "#log"), shows("#beginning", "#log"), click(`#topics [data-topic=general] a`), shows("#topic-button", "#general"))
	asked(t, claude, &wire.TopicJoin{Topic: "log"})
	for i := range 100 {
		said(t, claude, "log", fmt.Sprintf("entry %d", i))
	}
	do(t, h.page, shows("#topics .count", "99+"), click(`#topics [data-topic=log] a`), shows("#jump", "100 new messages"), shows(".divider.new", "New"), click("#jump"), gone("#topics .count"))
}

func TestScrollingBackOverALongHistory(t *testing.T) {
	h := newHouse(t)
	ids := h.history(1_500)
	wantSeen(t, h.historian, ids[1_499], "Olga")
	do(t, h.page, chromedp.Reload(), sees("historian", "step 1499"))
	js[bool](t, h.page, `(() => {
		window.rows = 0;
		new MutationObserver(() => { window.rows = Math.max(window.rows, document.querySelectorAll(".message").length); })
			.observe(document.querySelector("#list"), { childList: true });
		return true;
	})()`)
	top := func() int {
		return js[int](t, h.page, `Number([...document.querySelectorAll(".message-text")].map(m => m.textContent.match(/^step (\d+)$/)?.[1]).filter(Boolean)[0])`)
	}
	for deadline := time.Now().Add(patience); top() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("the top is step %d", top())
		}
		do(t, h.page, wheel(-3_000), chromedp.Sleep(20*time.Millisecond))
	}
	do(t, h.page, until(`() => { document.querySelector("#messages").scrollTop = 0; return document.querySelector("#beginning").checkVisibility(); }`))
	if rows := js[int](t, h.page, "window.rows"); rows > 1_400 {
		t.Errorf("up to %d rows were on the page; it must not grow with the history", rows)
	}
	said(t, h.agent("claude"), "general", "are you there?")
	do(t, h.page, shows("#jump", "1 new message"), click("#jump"), sees("claude", "are you there?"), gone("#jump"))
	// An address of a message leads there, also in a new tab, which has nothing yet.
	tab := newTab(t, h.page)
	do(t, tab, chromedp.Navigate(h.url+"/#/general/"+ids[300]), until(`() => document.activeElement.textContent.includes("step 300")`), click(`#topics [data-topic=general] a`), sees("claude", "are you there?"))
	// And on from there in both directions.
	do(t, h.page, chromedp.Navigate(h.url+"/#/general/"+ids[700]), until(`() => document.activeElement.textContent.includes("step 700")`), shows("#jump", "Jump to latest"))
	for deadline := time.Now().Add(patience); js[bool](t, h.page, `![...document.querySelectorAll(".message-text")].some(m => m.textContent === "step 1499")`); {
		if time.Now().After(deadline) {
			t.Fatal("scrolling down does not get to the newest message")
		}
		do(t, h.page, wheel(3_000), chromedp.Sleep(20*time.Millisecond))
	}
	do(t, h.page, until(`() => { const box = document.querySelector("#messages"); box.scrollTop = box.scrollHeight; return !document.querySelector("#jump").checkVisibility(); }`))
	inOrder := js[bool](t, h.page, `[...document.querySelectorAll(".message-text")].map(m => Number(m.textContent.match(/^step (\d+)$/)?.[1] ?? 1500)).every((n, i, all) => i === 0 || n === all[i - 1] + 1)`)
	if !inOrder {
		t.Error("the messages are not in order, or some are missing or doubled")
	}
}

func TestReadersKeepTheirPlace(t *testing.T) {
	h := newHouse(t)
	ids := h.history(400)
	wantSeen(t, h.historian, ids[399], "Olga")
	do(t, h.page, chromedp.Reload(), sees("historian", "step 399"))
	do(t, h.page, wheel(-1_500), chromedp.Sleep(300*time.Millisecond))
	for range 3 {
		place := js[[]float64](t, h.page, `(async () => {
			const box = document.querySelector("#messages");
			await new Promise(done => setTimeout(done, 300));
			const before = [...document.querySelectorAll(".message")].find(m => m.getBoundingClientRect().top > box.getBoundingClientRect().top);
			const top = before.getBoundingClientRect().top, rows = document.querySelectorAll(".message").length;
			document.querySelector("#older").click();
			for (let i = 0; i < 200 && document.querySelectorAll(".message").length === rows; i++) await new Promise(done => setTimeout(done, 20));
			await new Promise(done => setTimeout(done, 300));
			return [top, before.getBoundingClientRect().top, rows, document.querySelectorAll(".message").length];
		})()`)
		if moved := place[1] - place[0]; moved > 2 || moved < -2 {
			t.Errorf("what was read moved by %.0f pixels when %.0f rows became %.0f", moved, place[2], place[3])
		}
	}
}

func TestSearchLeadsToTheMessage(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	said(t, claude, "general", "The **importer** swallows the line number")
	ids := h.history(300)
	wantSeen(t, h.historian, ids[299], "Olga") // else the page goes on where she left it
	asked(t, claude, &wire.TopicCreate{Name: "deploys"})
	said(t, claude, "deploys", "the importer is out")
	do(t, h.page, chromedp.Reload(), sees("historian", "step 299"), click("#search-button"), types("import"), shows(".result mark", "import"),
		until(`() => document.querySelectorAll(".result").length === 1`))
	do(t, h.page, click(`[name=everywhere]`), until(`() => document.querySelectorAll(".result").length === 2`), shows(".result-topic", "#deploys"))
	do(t, h.page, click(".results li:last-child a"), until(`() => document.activeElement.textContent.includes("swallows the line number")`), chromedp.WaitVisible(css("#jump")), key("Escape"), gone("#panel"))
	do(t, h.page, key("/"), until(`() => document.activeElement.type === "search"`), chromedp.Evaluate[chromedp.Void](`document.activeElement.value = ""`),
		types("nowhere to be found"), shows(".search-status", "Nothing was found"))
}

func TestEncryptedMessagesAreShownAsLocked(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	do(t, h.page, shows("#privacy", "Readable by the meshbox"))
	posted(t, claude, wire.Send{TargetSpec: "#general", Priority: wire.PriorityNext, Nonce: "AAAA", Ciphertext: base64.StdEncoding.EncodeToString([]byte("sealed bytes")), BodyVersion: 2})
	do(t, h.page, shows(".message-note", "End-to-end encrypted"), shows("#privacy", "Partly encrypted"))
	if text := js[string](t, h.page, `document.querySelector("#messages").textContent`); strings.Contains(text, "sealed bytes") {
		t.Error("what is encrypted to a topic key is shown as if it were text")
	}
	do(t, h.page, says("plain"), shows("#privacy", "Readable by the meshbox"))
}

// The page has no key of an encrypted topic: it says so, and offers nothing to write with.
func TestAnEncryptedTopicIsLockedHere(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	made, err := claude.CreateTopic(t.Context(), wire.TopicCreate{Name: "plans", Encrypted: true})
	if err != nil || !made.Created {
		t.Fatalf("made %+v, %v", made, err)
	}
	if ack, err := claude.SendText(t.Context(), "#plans", "unspeakable"); err != nil || !ack.Queued {
		t.Fatalf("ack %+v, %v", ack, err)
	}
	do(t, h.page, chromedp.Evaluate[chromedp.Void](`location.hash = "#/plans"`), shows("#privacy", "End-to-end encrypted"), shows(".message-note", "End-to-end encrypted"),
		shows("#locked", "this page has no key"), click("#join-topic-button"), until(`() => document.querySelector("#join-topic").hidden`))
	if hidden := js[[]bool](t, h.page, `["#compose-form", "#locked"].map((id) => document.querySelector(id).checkVisibility())`); hidden[0] || !hidden[1] {
		t.Errorf("visible: the form %v, the reason %v", hidden[0], hidden[1])
	}
	do(t, h.page, click("#topic-button"), shows("dialog .privacy-note", "This page has no key"), key("Escape"))
	if page := js[string](t, h.page, `document.body.textContent`); strings.Contains(page, "unspeakable") {
		t.Error("the page shows what it can not read")
	}
	do(t, h.page, chromedp.Evaluate[chromedp.Void](`location.hash = "#/general"`), says("in the open"), sees("Olga", "in the open"), gone("#locked"))

	// A topic that is encrypted while somebody writes there.
	asked(t, claude, &wire.TopicCreate{Name: "ops"})
	do(t, h.page, chromedp.Evaluate[chromedp.Void](`location.hash = "#/ops"`), click("#join-topic-button"), says("before"), sees("Olga", "before"), types("half a thou"))
	key := identity.NewTopicKey()
	owner := identity.NewKey()
	encrypted, nonce, err := owner.SealTopicKey(owner.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	asked(t, claude, &wire.TopicClaimKey{Topic: "ops", OwnSeal: wire.OwnSeal{EncryptedKeyPubkey: owner.SealerKey(), EncryptedKey: encrypted, Nonce: nonce}})
	do(t, h.page, shows("#locked", "this page has no key"), gone("#compose-form"), sees("Olga", "before"))
}

func TestATopicIsExported(t *testing.T) {
	h := newHouse(t)
	h.history(450)
	said(t, h.agent("claude"), "general", "the _end_")
	folder := t.TempDir()
	do(t, h.page, downloadsTo(folder), click("#topic-button"), chromedp.Click("//button[text()='Export as Markdown']"), shows("dialog [role=status]", "451 messages saved."))
	text := wantFile(t, filepath.Join(folder, "home-general.md"))
	if !strings.HasPrefix(text, "# #general\n") || strings.Count(text, "**historian**") != 450 || !strings.HasSuffix(text, "\n\n> the _end_\n") || strings.Index(text, "step 1\n") > strings.Index(text, "step 2\n") {
		t.Errorf("Markdown of %d bytes begins %.200q", len(text), text)
	}
	do(t, h.page, chromedp.Click("//button[text()='Export as JSON lines']"))
	lines := strings.Split(strings.TrimSpace(wantFile(t, filepath.Join(folder, "home-general.jsonl"))), "\n")
	var last struct{ ID, SenderName, Text string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) != 451 || last.Text != "the _end_" || last.SenderName != "claude" {
		t.Errorf("%d lines, the last is %+v, %v", len(lines), last, err)
	}
}

// wantFile waits for a download.
func wantFile(t *testing.T, path string) string {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if err == nil && len(text) > 0 {
			return string(text)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s was not downloaded", filepath.Base(path))
	return ""
}

func TestPeopleAndAgentsAreToldApart(t *testing.T) {
	h := newHouse(t)
	codex := h.joins("codex")
	session := func(name, folder string) *peer.Conn {
		c, err := peer.Dial(t.Context(), peer.Options{Identity: codex, Session: identity.NewKey(), Client: wire.Client{DisplayName: name, CWD: folder, Hostname: "workbench", Model: "gpt-5", SessionID: name, PeerType: wire.PeerAI}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	api := session("codex-api", "/home/ada/api")
	do(t, h.page, shows("#people .person-name", "codex-api"), shows("#people .person-name", "of codex"))
	web := session("codex-web", "/home/ada/web")
	do(t, h.page, shows("#people .person > .person-body", "codex"), shows(".sessions", "codex-api"), shows(".sessions", "codex-web"), shows(".sessions .person-detail", "gpt-5 · web on workbench"))
	asked(t, api, &wire.SetStatus{Status: wire.StatusWorking})
	asked(t, web, &wire.SetSummary{Summary: "Reviewing PR 214"})
	do(t, h.page, shows(".sessions [data-status=working]", "codex-api"), shows(".person-summary", "Reviewing PR 214"))
	if people := js[string](t, h.page, `document.querySelector(".people-section").textContent`); !strings.Contains(people, "Olga") || strings.Contains(people, "codex") {
		t.Errorf("people: %s", people)
	}
	h.joins("gemini")
	do(t, h.page, shows("#people summary", "Away 1"))
}

func TestOneRunsTheMeshFromThePage(t *testing.T) {
	h := newHouse(t)
	do(t, h.page, click("#invite-button"), write(`dialog [name=label]`, "for the lab"), click("dialog .primary"), shows(".joined", "Waiting for somebody to join"),
		chromedp.WaitVisible(css(".qr")), shows(".copyable", "meshbox join "+h.url+"/i/"))
	link := js[string](t, h.page, `document.querySelector(".copyable code").textContent`)
	page := chromium(t)
	do(t, page, enter(link, "Adam"))
	do(t, h.page, shows(".joined", "Adam joined."), key("Escape"), click("#manage-button"), shows(".manage tr", "Adam"), shows(".manage tr", "here now"))
	// Revoked while the page is open.
	do(t, page, says("hello"), sees("Adam", "hello"))
	do(t, h.page, click(`[aria-label="Revoke Adam"]`), shows("dialog.confirm", "Revoke Adam?"), click("dialog.confirm .danger"), shows(".manage .revoked", "Adam"))
	do(t, page, shows("#banner-text", "You were removed from this mesh"), shows("#connection", "Disconnected"), shows("#banner-action", "Use another invite"))
	do(t, h.page, click(`[aria-label="Restore Adam"]`), gone(".manage .revoked"))
	do(t, page, chromedp.Reload(), shows("#connection", "Connected"), sees("Adam", "hello"))
	// Invites that still work: the agents' one of the first start, and another.
	do(t, h.page, shows(".manage tr", "first agents"), click(`[aria-label="Withdraw first agents"]`), until(`() => !document.querySelector(".manage").textContent.includes("first agents")`))
	do(t, h.page, chromedp.SetValue(css(`.manage [name=name]`), "workshop"), chromedp.Click("//button[text()='Rename']"), key("Escape"), shows("#mesh-name", "workshop"))
	do(t, page, shows("#mesh-name", "workshop"), gone("#invite-button"))
}

func TestAPIKeysFromThePage(t *testing.T) {
	h := newHouse(t)
	asked(t, h.agent("claude"), &wire.APIKeyCreate{Label: "of the agent", Capabilities: []string{"read"}})
	ask := func(secret, method, path, body string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+secret)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	// The owner sees those of all.
	do(t, h.page, click("#settings-button"), shows(".api-keys li", "of the agent"), shows(".api-keys li", "Of claude"), shows(".webhooks", "no webhooks"), clickButton("New API key"))
	do(t, h.page, types("nightly"), click(`dialog [value=read]`), click(`dialog [value=send]`), clickButton("Make the key"), shows("dialog .error", "Choose what the key may do."))
	do(t, h.page, click(`dialog [value=send]`), chromedp.SetValue(css(`dialog [name=topic]`), "general"), chromedp.SetValue(css(`dialog [name=term]`), "604800000"), clickButton("Make the key"), shows(".secrets", "/mcp/cm_"))
	shown := js[[]string](t, h.page, `[...document.querySelectorAll(".secrets code")].map(e => e.textContent)`)
	secret := shown[0]
	if !strings.HasPrefix(shown[1], "curl -s "+h.url+"/api/v1/messages -H 'Authorization: Bearer "+secret+"' -d '{\"topic\": \"general\"") || shown[2] != h.url+"/mcp/"+secret {
		t.Errorf("shown: %q", shown)
	}
	if focus := js[string](t, h.page, `document.activeElement.textContent`); focus != "Your new API key" {
		t.Errorf("the focus is on %q", focus)
	}
	output, err := exec.CommandContext(t.Context(), "sh", "-c", shown[1]).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "messageId") {
		t.Errorf("the line for scripts: %s, %v", output, err)
	}
	if status := ask(secret, http.MethodGet, "/api/v1/topics", ""); status != http.StatusForbidden {
		t.Errorf("a key that may send reads: %d", status)
	}
	do(t, h.page, clickButton("Done"), gone(".secrets"), shows(".api-keys li", "nightly"), shows(".api-keys li", "May send in #general · until "))
	if text := js[string](t, h.page, `document.body.textContent`); strings.Contains(text, secret) {
		t.Error("the secret is still on the page")
	}
	do(t, h.page, click(`[aria-label="Revoke nightly"]`), shows("dialog.confirm", "Revoke nightly?"), click("dialog.confirm .plain"), shows(".api-keys li", "nightly"))
	do(t, h.page, click(`[aria-label="Revoke nightly"]`), click("dialog.confirm .danger"), shows(".api-keys summary", "1 that works no more"), gone(`[aria-label="Revoke nightly"]`))
	if status := ask(secret, http.MethodPost, "/api/v1/messages", `{"topic":"general","text":"x"}`); status != http.StatusUnauthorized {
		t.Errorf("the revoked key: %d", status)
	}
	do(t, h.page, click(`[aria-label="Revoke of the agent"]`), click("dialog.confirm .danger"), shows(".api-keys", "You have no API keys."))
	// A member sees its own, and makes no admin.
	bob := h.guest("Bob")
	do(t, bob, click("#settings-button"), shows(".api-keys", "You have no API keys."), clickButton("New API key"), chromedp.WaitVisible(css("dialog [value=read]")), gone("dialog [value=admin]"))
}

func TestWebhooksFromThePage(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	asked(t, claude, &wire.TopicCreate{Name: "deploys"})
	do(t, h.page, click(`#other-topics [data-topic=deploys] a`), click("#join-topic-button"), gone("#join-topic"))
	do(t, h.page, click("#settings-button"), clickButton("New webhook"), types("Two words"), clickButton("Make the webhook"), shows("dialog .error", "1 to 50 of a-z"))
	do(t, h.page, chromedp.SetValue(css(`dialog [name=name]`), "disk"), clickButton("Make the webhook"), shows(".secrets", "/hook/"))
	shown := js[[]string](t, h.page, `[...document.querySelectorAll(".secrets code")].map(e => e.textContent)`)
	output, err := exec.CommandContext(t.Context(), "sh", "-c", shown[1]).CombinedOutput()
	if err != nil || !strings.Contains(string(output), `"ok":true`) {
		t.Errorf("the line to try it: %s, %v", output, err)
	}
	wantText(t, claude, "It works")
	do(t, h.page, clickButton("Done"), shows(".webhooks li", "Speaks in #deploys"), key("Escape"), sees("disk (webhook)", "It works"), shows(".message .badge", "connector"))
	if own := js[bool](t, h.page, `document.querySelector(".message.own") !== null`); own {
		t.Error("what the webhook says is shown as said by who made it")
	}
	issue := `{"action":"opened","issue":{"number":5,"title":"**@Olga** [x](https://evil.example) <https://evil.example> https://evil.example","html_url":"https://git.example.org/5"},"repository":{"full_name":"octo/app"},"sender":{"login":"mo"}}`
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shown[0], strings.NewReader(issue))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-GitHub-Event", "issues")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	do(t, h.page, shows(".message-text", "mo opened issue #5: **@\u2060Olga** [x](https://evil.example) <https://evil.example> https://evil.example"))
	if links := js[[]string](t, h.page, `[...document.querySelectorAll(".message-text a")].map(a => a.href)`); len(links) != 1 || links[0] != "https://git.example.org/5" {
		t.Errorf("links: %q", links)
	}
	if bold := js[string](t, h.page, `[...document.querySelectorAll(".message-text :is(strong, .mention)")].map(e => e.textContent).join()`); bold != "octo/app" {
		t.Errorf("marked: %s", bold)
	}
	do(t, h.page, click("#settings-button"), click(`[aria-label="Delete disk"]`), click("dialog.confirm .danger"), shows(".webhooks", "You have no webhooks."))
	output, err = exec.CommandContext(t.Context(), "sh", "-c", shown[1]).CombinedOutput()
	if err != nil || !strings.Contains(string(output), `"error":"not_found"`) {
		t.Errorf("after it was deleted: %s, %v", output, err)
	}
}

func TestInvitesThatDoNotWork(t *testing.T) {
	h := newHouse(t)
	page := chromium(t)
	brief := h.invite("--ttl", "1s")
	once := h.invite()
	run(t, h.program, "join", once, "--config", t.TempDir())
	time.Sleep(1100 * time.Millisecond)
	do(t, page, chromedp.Navigate(brief), shows(".error", "This invite has expired."), shows(".error code", "meshbox invite"))
	do(t, page, chromedp.Navigate(once), write("#join-name", "Late"), click("#join-button"), shows(".error", "This invite has been used up."))
	do(t, page, chromedp.Navigate(h.url+"/i/AAAAAAAA"), shows(".error", "not known here"))
	do(t, page, chromedp.Navigate(h.url+"/join/nonsense"), shows(".error", "does not look like a meshbox invite"))
	do(t, page, write("#invite-input", h.invite()), click("#invite-button"), write("#join-name", "Late"), key("Enter"), chromedp.WaitVisible(composer))
}

// Over plain HTTP from elsewhere a browser makes no keys: the page says so.
func TestInsecureAddressIsExplained(t *testing.T) {
	program, folder := build(t), t.TempDir()
	page := chromium(t, chromedp.Flag("host-resolver-rules", "MAP nas.local 127.0.0.1"))
	s := start(t, program, folder, "127.0.0.1:0")
	address := strings.Replace(s.link, "localhost", "nas.local", 1)
	do(t, page, chromedp.Navigate(address), shows("#problem h1", "not secure enough"), shows("#problem", "ssh -L"), shows("#problem", "--tls-self-signed"), shows("#problem a", "http://localhost:"))
}

func TestDraftsSurviveAReload(t *testing.T) {
	h := newHouse(t)
	said(t, h.agent("claude"), "general", "which one?")
	do(t, h.page, sees("claude", "which one?"), chromedp.Focus(css(".message")), key("r"), shows("#reply-text", "which one?"), types("the second"))
	do(t, h.page, chromedp.Reload(), shows("#reply-text", "which one?"))
	if draft := get(t, h.page, chromedp.Value(composer)); draft != "the second" {
		t.Errorf("the draft is %q", draft)
	}
	do(t, h.page, chromedp.Focus(composer), key("Escape"), gone("#reply"), key("Enter"), sees("Olga", "the second"), gone(".quote"))
}

func TestPastedLinesBecomeACodeBlockOnRequest(t *testing.T) {
	h := newHouse(t)
	paste := `(text) => {
		const field = document.querySelector("#composer");
		const data = new DataTransfer();
		data.setData("text/plain", text);
		if (field.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }))) document.execCommand("insertText", false, text);
	}`
	do(t, h.page, types("look: "), chromedp.Evaluate[chromedp.Void](`(`+paste+`)("if a {\n\tb()\n}")`), click("#make-code"))
	if draft := get(t, h.page, chromedp.Value(composer)); draft != "look: \n```\nif a {\n\tb()\n}\n```\n" {
		t.Errorf("the draft is %q", draft)
	}
	do(t, h.page, key("Enter"), shows("figure.code pre", "if a {\n\tb()\n}"), gone("#compose-offer"))
}

func TestLongMessagesAreFolded(t *testing.T) {
	h := newHouse(t)
	said(t, h.agent("claude"), "general", strings.Repeat("line\n\n", 100)+"the end")
	do(t, h.page, shows(".fold", "Show all 101 lines"))
	height := func() float64 {
		return js[float64](t, h.page, `document.querySelector(".message").getBoundingClientRect().height`)
	}
	folded := height()
	do(t, h.page, click(".fold"), shows(".fold", "Show less"))
	if folded > 500 || height() < 2*folded {
		t.Errorf("folded it is %.0f pixels high, unfolded %.0f", folded, height())
	}
}

// A browser keeps its draft and its unsent message while the server is gone.
func TestPageReconnectsByItself(t *testing.T) {
	h := newHouse(t)
	address := strings.TrimPrefix(h.url, "http://localhost")
	claude := h.agent("claude")
	do(t, h.page, says("before"), sees("Olga", "before"))
	wantText(t, claude, "before")
	h.kill()
	do(t, h.page, chromedp.WaitVisible(banner), shows("#connection", "Offline"), says("while it was gone"), shows(".message-status", "Will be sent"), chromedp.SendKeys(composer, "a draft"))

	h.server = start(t, h.program, h.folder, "127.0.0.1"+address, "--send-rate", "0")
	do(t, h.page, chromedp.WaitNotVisible(banner),
		until(`() => [...document.querySelectorAll("[data-state=sent]")].some(m => m.textContent.includes("while it was gone"))`))
	if draft := get(t, h.page, chromedp.Value(composer)); draft != "a draft" {
		t.Errorf("the draft is %q", draft)
	}
	shown := js[int](t, h.page, `[...document.querySelectorAll(".message-text")].filter(m => m.textContent === "while it was gone").length`)
	if shown != 1 {
		t.Errorf("the message sent meanwhile is shown %d times", shown)
	}
	back := h.agent("late")
	history := asked(t, back, &wire.TopicHistory{Topic: wire.General}).(*wire.TopicHistoryResponse)
	if len(history.Messages) != 2 {
		t.Errorf("the broker has %d messages, want 2", len(history.Messages))
	}
}

// Who writes faster than the broker allows need not do anything about it.
func TestMessagesWaitForTheRateLimit(t *testing.T) {
	page, program, folder := chromium(t), build(t), t.TempDir()
	s := start(t, program, folder, "127.0.0.1:0", "--send-rate", "1", "--send-burst", "1")
	do(t, page, enter(s.link, "Olga"), says("one"), says("two"), says("three"), shows("[data-state=sending]", "three"), gone("[data-state=sending]"), chromedp.Reload(), sees("Olga", "three"))
	wantTexts(t, page, "one|two|three")
}

// A message that failed can be tried again, without loss and without a double.
func TestAFailedMessageIsTriedAgain(t *testing.T) {
	h := newHouse(t)
	address := strings.TrimPrefix(h.url, "http://localhost")
	do(t, h.page, says("one"), sees("Olga", "one"))
	h.kill()
	do(t, h.page, shows("#connection", "Offline"), says("two"), shows(".message-status", "Will be sent"))
	// It stays unsent for so long that the broker might not know it again.
	js[bool](t, h.page, `Object.keys(localStorage).filter(key => key.includes("outbox")).every(key => {
		const entry = JSON.parse(localStorage[key]);
		localStorage[key] = JSON.stringify({ ...entry, at: entry.at - 25 * 3600_000 });
		return true;
	})`)
	do(t, h.page, chromedp.Navigate("about:blank"))
	h.server = start(t, h.program, h.folder, "127.0.0.1"+address, "--send-rate", "0")
	do(t, h.page, chromedp.Navigate(h.url), shows("[data-state=failed] .message-status", "Not sent. This was written over a day ago"), click(".retry"), gone("[data-state=failed]"), sees("Olga", "two"))
	do(t, h.page, chromedp.Reload(), sees("Olga", "two"))
	wantTexts(t, h.page, "one|two")
}

func wantTexts(t *testing.T, page context.Context, want string) {
	t.Helper()
	if texts := js[string](t, page, `[...document.querySelectorAll(".message-text")].map(m => m.textContent).join("|")`); texts != want {
		t.Errorf("the room has %s, want %s", texts, want)
	}
}
