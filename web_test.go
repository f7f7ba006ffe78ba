package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// Parts of the web chat that are easier to look at alone than in the page.

func TestModuleMention(t *testing.T) {
	page := modules(t)
	names := []string{"Olga", "claude", "claude-2", "ann.b-c", "Ada Lovelace", "日本", "x"}
	for text, want := range map[string]string{
		"":                                 "",
		"olga":                             "",
		"@olga":                            "Olga",
		"hi @OLGA, @claude.":               "Olga,claude",
		"@claude-2":                        "claude-2",
		"@claude-3":                        "",
		"mail me at x@olga":                "",
		"@@olga":                           "",
		"(@ann.b-c)":                       "ann.b-c",
		"@ada lovelace's":                  "Ada Lovelace",
		"@ada lovelaces":                   "",
		"@ada":                             "",
		"@日本 です":                           "日本",
		"@xx @x":                           "x",
		"**@claude** `@Olga`":              "Olga,claude",
		"@olga-":                           "Olga",
		strings.Repeat("@ada ", 2) + "\n@": "",
	} {
		got := evaluate[string](t, page, `async (text, names) => (await import("/mention.js")).mentioned(text, names).join()`, text, names)
		if got != want {
			t.Errorf("%q mentions %q, want %q", text, got, want)
		}
	}
}

// A topic's messages are fetched while others are pushed; whatever comes in
// between, they stand in the broker's order, without doubles and without holes.
func TestModuleTimeline(t *testing.T) {
	page := modules(t)
	run := func(script string) string {
		t.Helper()
		return evaluate[string](t, page, `async (script) => {
			const { Timeline } = await import("/timeline.js");
			const message = (n) => ({ id: "id" + String(n).padStart(3, "0"), note: "", own: false });
			const outside = (n) => ({ ...message(n), note: "outside" });
			const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => message(from + i));
			const line = new Timeline();
			for (const [act, ...values] of script) {
				if (act === "start") line.markStart();
				if (act === "push") for (const n of values) line.append(message(n));
				if (act === "outside") for (const n of values) line.append(outside(n));
				if (act === "merge") line.merge(range(values[0], values[1]), values[2] ?? false);
				if (act === "older") line.prepend(range(...values));
				if (act === "newest") line.keepNewest(values[0]);
			}
			return line.list.map(({ id }) => Number(id.slice(2))).join(" ");
		}`, parse(script))
	}
	for _, c := range []struct{ name, script, want string }{
		{"pushed while it was fetched", "start; push 5 6; merge 1 5", "1 2 3 4 5 6"},
		{"pushed twice", "start; merge 1 3; push 3 4 4", "1 2 3 4"},
		{"what waited for this member comes before it is fetched", "start; push 1 2 3 4; merge 4 6", "4 5 6"},
		{"and after that", "start; merge 4 6; push 1 2 5 7", "4 5 6 7"},
		{"it is in the history", "start; push 1; merge 4 6; older 1 3", "1 2 3 4 5 6"},
		{"a short absence", "start; merge 1 3; start; push 6; merge 2 5", "1 2 3 4 5 6"},
		{"a long absence", "start; merge 1 3; start; merge 8 9 gap", "8 9"},
		{"what is of no topic stays", "start; merge 1 3; outside 4; start; merge 8 9 gap; push 10", "4 8 9 10"},
		{"an empty topic", "start; push 1; merge 1 0", "1"},
		{"the far end is let go", "start; merge 1 9; newest 3; push 10", "7 8 9 10"},
	} {
		if got := run(c.script); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// parse makes [["push", 1, 2], ["merge", 1, 5, true]] of "push 1 2; merge 1 5 gap".
func parse(script string) (acts [][]any) {
	for act := range strings.SplitSeq(script, "; ") {
		words := strings.Fields(act)
		values := []any{words[0]}
		for _, word := range words[1:] {
			if word == "gap" {
				values = append(values, true)
				continue
			}
			n := 0
			for _, digit := range word {
				n = 10*n + int(digit-'0')
			}
			values = append(values, n)
		}
		acts = append(acts, values)
	}
	return acts
}

func TestModuleReadMark(t *testing.T) {
	page := modules(t)
	got := evaluate[[]string](t, page, `async () => {
		const { ReadMark } = await import("/readmark.js");
		const list = [1, 2, 3, 4, 5].map(n => ({ id: "m" + n, own: n === 4 }));
		const ids = (messages) => messages.map(({ id }) => id).join();
		const mark = new ReadMark(), said = [];
		said.push(ids(mark.unread(list)));                 // not known yet
		mark.set("m2", list); said.push(ids(mark.unread(list)));
		mark.placeLine(list); said.push(mark.line.id);
		mark.advance("m5"); said.push(ids(mark.unread(list)));
		mark.set("m3", list); said.push(ids(mark.unread(list))); // the broker is behind
		mark.set("m5", list); said.push(String(mark.line));
		const fresh = new ReadMark();
		fresh.set("", list); said.push(ids(fresh.unread(list))); // nothing was read
		const far = new ReadMark();
		far.set("m0", list.slice(2)); far.placeLine(list.slice(2)); far.raiseLine(list); said.push(far.line.id);
		return said;
	}`)
	want := []string{"", "m3,m5", "m3", "", "", "null", "m1,m2,m3,m5", "m1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Notifications are for who asked for them, and for what one is not looking at.
func TestMentionsAreAnnounced(t *testing.T) {
	h := newHouse(t)
	claude := h.agent("claude")
	do(t, h.page, chromedp.Evaluate[chromedp.Void](`{
		window.notes = [];
		window.Notification = class { static permission = "default"; static async requestPermission() { return this.permission = "granted"; }
			constructor(title, { body }) { notes.push(title + ": " + body); } };
	}`))
	said(t, claude, "general", "@olga, nobody asked to be told")
	do(t, h.page, shows(".mentions-me", "nobody asked"), dispatch("#settings-button"), shows("dialog", "Show a notification"), click("dialog .toggle input"),
		until(`() => document.querySelector("dialog .toggle input").checked`), key("Escape"), gone("dialog"),
		click("#topic-new"), write(`dialog [name=name]`, "elsewhere"), key("Enter"), shows("#topic-button", "#elsewhere"))
	said(t, claude, "general", "no mention")
	said(t, claude, "general", "**@Olga** look at `this`")
	do(t, h.page, until(`() => notes.length > 0`))
	if notes := js[string](t, h.page, `notes.join("|")`); notes != "claude in #general: @Olga look at this" {
		t.Errorf("notified of %s", notes)
	}
}
