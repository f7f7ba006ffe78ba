package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"meshbox/broker/identity"
	"meshbox/broker/peer"
	"meshbox/broker/wire"
)

// The web chat as it fits its users: small screens, no pointer, no good will.

// furnished is a house with something in each corner of the page.
func furnished(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	claude := h.agent("claude")
	asked(t, claude, &wire.SetSummary{Summary: "Reworking the import pipeline; the tests are green on my side"})
	asked(t, claude, &wire.SetStatus{Status: wire.StatusWorking})
	asked(t, claude, &wire.TopicCreate{Name: "deploys", Description: "What went out"})
	first := said(t, claude, "general", "# Plan\n\n1. `parse_row()` and https://git.example.org/"+strings.Repeat("long/", 40)+"\n2. a [link](https://example.org)\n\n> quoted\n\n- [x] done\n\n```go\n"+strings.Repeat("wide ", 80)+"\n```\n\n| a | b |\n|---|---|\n| "+strings.Repeat("wide ", 60)+" | 1 |")
	posted(t, claude, wire.Send{TargetSpec: "#general", Priority: wire.PriorityNext, Ciphertext: base64.StdEncoding.EncodeToString([]byte("@olga " + strings.Repeat("w", 400))), BodyVersion: 1, ReplyToID: first})
	posted(t, claude, wire.Send{TargetSpec: "#general", Priority: wire.PriorityNext, Nonce: "AAAA", Ciphertext: "AAAA", BodyVersion: 2})
	h.joins("gemini")
	do(t, h.page, shows(".message-note", "encrypted"), says("Thanks, @claude"), shows(".receipt", "2"))
	return h
}

// screens are what a test of looks goes through: how to get there, and back.
var screens = []struct {
	name     string
	in, back action
}{
	{"room", until(`() => true`), until(`() => true`)},
	{"search", chromedp.Steps(click("#search-button"), types("plan"), shows(".result", "Plan")), chromedp.Steps(key("Escape"), gone("#panel"))},
	{"about", chromedp.Steps(click("#topic-button"), shows(".topic-members", "member")), key("Escape")},
	{"keys", chromedp.Steps(chromedp.Focus(css("#messages")), key("?"), shows("dialog", "Keys")), key("Escape")},
	{"switcher", chromedp.Steps(key("k", ctrl), shows("dialog", "Go to")), key("Escape")},
	{"new topic", chromedp.Steps(dispatch("#topic-new"), shows("dialog", "New topic")), key("Escape")},
	{"settings", chromedp.Steps(dispatch("#settings-button"), shows("dialog", "Settings")), key("Escape")},
	{"new API key", chromedp.Steps(dispatch("#settings-button"), clickButton("New API key"), shows("dialog", "What it may do")), twice(key("Escape"))},
	{"made API key", chromedp.Steps(dispatch("#settings-button"), clickButton("New API key"), write("dialog [name=label]", "a script"), clickButton("Make the key"), shows(".secrets", "/mcp/cm_")), chromedp.Steps(twice(key("Escape")), dispatch("#settings-button"), shows(".api-keys li", "a script"), key("Escape"))},
	{"made webhook", chromedp.Steps(dispatch("#settings-button"), clickButton("New webhook"), types("hook-"), until(`() => document.execCommand("insertText", false, Date.now())`), clickButton("Make the webhook"), shows(".secrets", "/hook/")), twice(key("Escape"))},
	{"settings with keys", chromedp.Steps(dispatch("#settings-button"), shows(".api-keys li", "a script"), shows(".webhooks li", "hook-")), key("Escape")},
	{"invite", chromedp.Steps(dispatch("#invite-button"), click("dialog .primary"), chromedp.WaitVisible(css(".qr"))), key("Escape")},
	{"manage", chromedp.Steps(dispatch("#manage-button"), shows(".manage td", "Olga"), shows(".manage", "Withdraw")), key("Escape")},
}

// twice does something twice: it takes two Escapes to leave a dialog over another.
func twice(act action) action { return chromedp.Steps(act, act) }

// clickButton clicks the button with this text.
func clickButton(text string) action { return chromedp.Click("//button[text()='" + text + "']") }

// dispatch clicks also what is behind a sheet.
func dispatch(selector string) action {
	return chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector(%q).click()`, selector))
}

func TestNothingIsWiderThanTheScreen(t *testing.T) {
	h := furnished(t)
	for _, width := range []int64{320, 390, 720, 1280, 2560} {
		do(t, h.page, size(width, 844, width < 720))
		for _, screen := range screens {
			do(t, h.page, screen.in)
			if width > 720 && screen.name == "room" {
				do(t, h.page, gone("#sidebar-button"))
			}
			wide := js[[]string](t, h.page, `[...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && !e.closest("pre, .table, .copyable, .sr-only, .qr, #sidebar[inert]"))
				.filter(e => { const box = e.getBoundingClientRect(); return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1); }).map(e => e.tagName + "#" + e.id + "." + e.className + " " + e.textContent.slice(0, 40))`)
			if overflow := js[float64](t, h.page, "document.documentElement.scrollWidth - innerWidth"); overflow > 0 || len(wide) > 0 {
				t.Errorf("%d pixels, %s: the page is %.0f pixels too wide: %q", width, screen.name, overflow, wide)
			}
			do(t, h.page, screen.back, gone("dialog"))
		}
	}
}

func TestOnAPhone(t *testing.T) {
	h := furnished(t)
	phone := chromium(t)
	do(t, phone, size(390, 844, true), enter(h.invite(), "Pia"), gone("#sidebar"), says("from the bus"), sees("Pia", "from the bus"))
	sheetOpen := until(`() => document.querySelector("#sidebar").getBoundingClientRect().left === 0`)
	do(t, phone, click("#sidebar-button"), sheetOpen, shows("#people", "claude"), click(`#other-topics [data-topic=deploys] a`), shows("#topic-button", "#deploys"), gone("#sidebar"), click("#join-topic-button"), says("hello"), sees("Pia", "hello"))
	do(t, h.page, says("@Pia home?"))
	do(t, phone, shows("#elsewhere", "1"), click("#sidebar-button"), sheetOpen, shows(`#topics [data-topic=general] .count`, "@1"), click("#sidebar-close"), gone("#sidebar"))
	small := js[[]string](t, phone, `[...document.querySelectorAll("button, a.message-time, #topics a, input")].filter(e => e.checkVisibility() && !e.closest("#sidebar[inert], .message-text, .message-status"))
		.filter(e => { const box = e.getBoundingClientRect(); return box.width && (box.height < 24 || box.width < 24) && !e.matches(".message-time, .quote"); }).map(e => e.id + e.className)`)
	if len(small) > 0 {
		t.Errorf("too small for a finger: %q", small)
	}
}

// Everything with the keyboard alone: no click, and no focus set by the test.
func TestWithTheKeyboardAlone(t *testing.T) {
	page, program, folder := chromium(t), build(t), t.TempDir()
	s := start(t, program, folder, "127.0.0.1:0", "--send-rate", "0")
	h := &house{server: s, program: program, folder: folder, page: page}
	do(t, page, chromedp.Navigate(s.link), chromedp.WaitVisible(joinName), types("Olga"), key("Enter"), chromedp.WaitVisible(composer), shows("#connection", "Connected"))
	claude := h.agent("claude")
	said(t, claude, "general", "first")
	said(t, claude, "general", "second")
	do(t, page, sees("claude", "second"), types("third"), key("Enter"), sees("Olga", "third"))
	focused := func(what, condition string) {
		t.Helper()
		do(t, page, until("() => "+condition))
		if js[bool](t, page, `document.activeElement === document.body`) {
			t.Errorf("%s: the focus is nowhere", what)
		}
	}
	// From message to message, and a reply.
	do(t, page, key("Escape"))
	focused("the composer", `document.activeElement.id === "composer"`)
	do(t, page, chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`), key("m"))
	focused("the newest message", `document.activeElement.textContent.includes("third")`)
	do(t, page, key("ArrowUp"))
	focused("the one before", `document.activeElement.textContent.includes("second")`)
	do(t, page, key("r"), shows("#reply-text", "claude: second"))
	focused("the composer, to reply", `document.activeElement.id === "composer"`)
	do(t, page, types("a reply"), key("Enter"), shows(".quote", "second"))
	// A topic, made and left by keys.
	do(t, page, tabTo("#topic-new"), key("Enter"), chromedp.WaitVisible(css("dialog")))
	focused("the name of the topic", `document.activeElement.name === "name"`)
	do(t, page, types("deploys"), key("Enter"), shows("#topic-button", "#deploys"), gone("dialog"))
	do(t, page, key("k", ctrl), chromedp.WaitVisible(css(".switcher")), types("gen"), key("Enter"), shows("#topic-button", "#general"), gone("dialog"))
	do(t, page, key("ArrowDown", alt), shows("#topic-button", "#deploys"), key("ArrowUp", alt), shows("#topic-button", "#general"))
	// Help, search, and back.
	do(t, page, chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`), key("?"), shows("dialog", "Reply to the message"), key("Escape"), gone("dialog"))
	do(t, page, key("/"), types("second"), shows(".result", "second"), key("Tab"), key("Tab"))
	focused("the result", `document.activeElement.matches(".result")`)
	do(t, page, key("Enter"))
	focused("what was found", `document.activeElement.querySelector(".message-text")?.textContent === "second"`)
	do(t, page, key("Escape"), gone("#panel"))
	// An API key, made and revoked.
	do(t, page, tabTo("#settings-button"), key("Enter"), tabTo(".api-keys .buttons button"), key("Enter"), chromedp.WaitVisible(css("dialog [name=label]")))
	focused("what the key is for", `document.activeElement.name === "label"`)
	do(t, page, types("by keys"), key("Enter"), shows(".secrets", "/mcp/cm_"))
	focused("what was made", `document.activeElement.textContent === "Your new API key"`)
	do(t, page, key("Escape"), gone(".secrets"))
	focused("what opened the dialog", `document.activeElement.textContent === "New API key"`)
	do(t, page, backTo(`[aria-label="Revoke by keys"]`), key("Enter"), tabTo("dialog.confirm .danger"), key("Enter"), shows(".api-keys summary", "1 that"))
	focused("the list", `document.activeElement.matches(".granted")`)
	do(t, page, key("Escape"), gone("dialog"))
	// Who has it, without a pointer.
	do(t, page, tabTo(".receipt"), shows("#receipt-window", "claude"))
	for _, id := range js[[]string](t, page, `[...document.querySelectorAll("button, a, input, textarea, select, [tabindex='0']")].filter(e => e.checkVisibility() && !e.disabled && !e.closest("[inert]")).filter(e => {
		e.focus(); const style = getComputedStyle(e), box = getComputedStyle(e.closest(".compose-box") ?? e);
		return document.activeElement !== e || ![style, box].some(s => s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0);
	}).map(e => e.tagName + e.id + e.className)`) {
		t.Errorf("%s does not show that it has the focus, or cannot have it", id)
	}
}

// tabTo presses Tab until an element has the focus; backTo presses Shift+Tab.
func tabTo(selector string) action  { return walkTo(selector, key("Tab")) }
func backTo(selector string) action { return walkTo(selector, key("Tab", shift)) }

func walkTo(selector string, step action) action {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		for range 80 {
			if _, err := step(ctx, target); err != nil {
				return chromedp.Void{}, err
			}
			there, err := chromedp.Evaluate[bool](fmt.Sprintf(`document.activeElement.matches(%q)`, selector))(ctx, target)
			if err != nil || there {
				return chromedp.Void{}, err
			}
		}
		return chromedp.Void{}, fmt.Errorf("Tab does not get to %s", selector)
	}
}

// corpus is texts that become more than text in a careless page.
var corpus = []string{
	`__proto__`,
	`<script>window.owned = 1</script>`,
	`<img src=x onerror="window.owned = 1">`,
	`"><svg onload=window.owned=1>`,
	`'"><iframe srcdoc="<script>parent.owned=1</script>"></iframe>`,
	`[click](javascript:window.owned=1)`,
	`<javascript:window.owned=1>`,
	`![x](javascript:window.owned=1)`,
	`[x](data:text/html,<script>opener.owned=1</script>)`,
	`</title><script>window.owned = 1</script>`,
	`{{constructor.constructor('window.owned=1')()}}`,
	`&lt;script&gt;window.owned=1&lt;/script&gt;`,
	`<a href="jAvAsCrIpT:window.owned=1">x</a>`,
	"`<b onmouseover=window.owned=1>`",
	`<style>@import "https://evil.example/x.css"</style>`,
	`<meta http-equiv=refresh content="0;url=https://evil.example">`,
	`<base href="https://evil.example/">`,
}

func TestNothingPostedBecomesMarkup(t *testing.T) {
	h := newHouse(t)
	do(t, h.page, chromedp.Evaluate[chromedp.Void](`addEventListener("securitypolicyviolation", ({ blockedURI }) => (window.blocked ??= []).push(blockedURI))`))
	invite := h.invite("--uses", "100")
	for i, text := range corpus {
		id, err := peer.Join(t.Context(), invite, text, identity.NewKey())
		if err != nil {
			t.Fatal(err)
		}
		c, err := peer.Dial(t.Context(), peer.Options{Identity: id, Client: wire.Client{DisplayName: text, CWD: text, Hostname: text, Model: text, PeerType: wire.PeerAI}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		asked(t, c, &wire.SetSummary{Summary: text})
		asked(t, c, &wire.TopicCreate{Name: fmt.Sprintf("topic-%d", i), Description: text})
		first := said(t, c, "general", text)
		posted(t, c, wire.Send{TargetSpec: "#general", Priority: wire.PriorityNext, Ciphertext: base64.StdEncoding.EncodeToString([]byte("re: " + text + " @Olga @" + text)), BodyVersion: 1, ReplyToID: first})
	}
	last := corpus[len(corpus)-1]
	do(t, h.page, shows(".message-text", "re: "+last), shows("#people", last), write("#composer", "@"), chromedp.WaitVisible(css("#names")), key("Escape"))
	for _, screen := range screens {
		if screen.name != "search" {
			do(t, h.page, screen.in, screen.back, gone("dialog"))
		}
	}
	do(t, h.page, click(`#other-topics [data-topic=topic-1] a`), shows("#topic-description", corpus[1]), click("#topic-button"), shows("dialog", corpus[1]), key("Escape"),
		click(`#topics [data-topic=general] a`), click("#search-button"), types("window owned"), shows(".result", "owned"))
	if js[bool](t, h.page, `"owned" in window`) {
		t.Error("a text was run as a script")
	}
	if blocked := js[[]string](t, h.page, `window.blocked ?? []`); len(blocked) > 0 {
		t.Errorf("the page tried to load %q", blocked)
	}
	strange := js[[]string](t, h.page, `[...document.querySelectorAll("#messages *, #sidebar *, #panel *, .bar *")].filter(e =>
		["SCRIPT", "STYLE", "IFRAME", "OBJECT", "EMBED", "META", "BASE", "LINK", "FORM"].includes(e.tagName) && e.role !== "search" && !e.closest("#panel form")
		|| e.getAttributeNames().some(name => name.startsWith("on") || name === "srcdoc" || name === "style" && !e.matches(".avatar"))
		|| e.tagName === "IMG" && !e.matches(".logo") || e.tagName === "A" && !["http:", "https:", "mailto:"].includes(e.protocol)).map(e => e.outerHTML.slice(0, 120))`)
	if len(strange) > 0 {
		t.Errorf("texts became markup: %q", strange)
	}
	for _, text := range corpus[1:5] {
		if !js[bool](t, h.page, fmt.Sprintf(`[...document.querySelectorAll(".message-text")].some(m => m.textContent === %s)`, quote(text))) {
			t.Errorf("%s is not shown as it was written", text)
		}
	}
}

func quote(text string) string {
	literal, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(literal)
}

func TestManyMembersAndMessages(t *testing.T) {
	h := newHouse(t)
	invite := h.invite("--uses", "1000")
	for i := range 500 {
		id, err := peer.Join(t.Context(), invite, fmt.Sprintf("member %d", i), identity.NewKey())
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			c, err := peer.Dial(t.Context(), peer.Options{Identity: id, Client: wire.Client{PeerType: wire.PeerAI}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
		}
	}
	do(t, h.page, shows("#people h2", "Agents 50"), shows("#people summary", "Away 450"))
	do(t, h.page, says("hello everybody"), shows(".receipt", "500"),
		focusOn(".receipt"), shows("#receipt-window", "others"))
	do(t, h.page, key("k", ctrl), shows("dialog", "Go to"), types("member 499"), shows(".switcher [role=option]", "member 499"), key("Enter"), gone("dialog"))
	if draft := get(t, h.page, chromedp.Value(composer)); draft != "@member 499 " {
		t.Errorf("the draft is %q", draft)
	}
}

// TestAccessibility looks at every screen with axe-core, which .ci/run fetches and
// MESHBOX_AXE names: it is no part of the program.
func TestAccessibility(t *testing.T) {
	path := os.Getenv("MESHBOX_AXE")
	if path == "" {
		t.Skip("MESHBOX_AXE does not name axe-core's axe.min.js; .ci/run shows how to get it")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h := furnished(t)
	fresh := chromium(t)
	check := func(name string, page context.Context) {
		t.Helper()
		type violation struct {
			ID, Impact, Help string
			Nodes            []struct{ HTML, FailureSummary string }
		}
		js[bool](t, page, string(axe)+"\n;true")
		for _, v := range js[[]violation](t, page, `axe.run({ resultTypes: ["violations"] }).then(r => r.violations.map(({ id, impact, help, nodes }) => ({ ID: id, Impact: impact, Help: help, Nodes: nodes.map(n => ({ HTML: n.html, FailureSummary: n.failureSummary })) })))`) {
			report := t.Logf
			if v.Impact == "serious" || v.Impact == "critical" {
				report = t.Errorf
			}
			report("%s: %s (%s): %s: %s %s", name, v.ID, v.Impact, v.Help, v.Nodes[0].HTML, v.Nodes[0].FailureSummary)
		}
	}
	do(t, h.page, media("forced-colors", "active"))
	if !js[bool](t, h.page, `["#send-button", ".message .avatar", ".count"].every(s => getComputedStyle(document.querySelector(s)).borderTopStyle === "solid") && getComputedStyle(document.querySelector(".mentions-me")).borderInlineStartStyle === "solid"`) {
		t.Error("with forced colours some things can not be told from what is around them")
	}
	for _, scheme := range []string{"light", "dark"} {
		do(t, h.page, media("prefers-color-scheme", scheme))
		for _, screen := range screens {
			do(t, h.page, screen.in)
			check(scheme+", "+screen.name, h.page)
			do(t, h.page, screen.back, gone("dialog"))
		}
		do(t, h.page, size(390, 844, true), click("#sidebar-button"), chromedp.WaitVisible(css("#sidebar")))
		check(scheme+", the sheet of a phone", h.page)
		do(t, h.page, click("#sidebar-close"), chromedp.ResetViewport())
		do(t, fresh, media("prefers-color-scheme", scheme), chromedp.Navigate(h.invite()), chromedp.WaitVisible(joinName))
		check(scheme+", joining", fresh)
		do(t, fresh, chromedp.Navigate(h.url+"/i/AAAAAAAA"), shows(".error", "not known"))
		check(scheme+", an invite that does not work", fresh)
	}
}
