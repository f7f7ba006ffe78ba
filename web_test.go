package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"meshbox/broker/wire"
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
			const outside = (n) => ({ ...message(n), id: message(n).id + ".5", note: "outside" });
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
		{"what is of no topic stands by its id", "start; merge 1 3; outside 2 4; push 5", "1 2 2.5 3 4.5 5"},
		{"and is not the place to go on from", "start; merge 1 3; outside 9; start; merge 2 5", "1 2 3 4 5 9.5"},
		{"and waits for what is around it", "start; merge 1 3; outside 4; start; merge 8 9 gap; push 10", "8 9 10"},
		{"which scrolling back brings", "start; merge 1 3; outside 4; start; merge 8 9 gap; older 3 7", "3 4 4.5 5 6 7 8 9"},
		{"of two senders the later one was stored first", "start; merge 1 3; push 5 4; start; push 7 6; merge 5 5", "1 2 3 4 5 7 6"},
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
		const mark = new ReadMark(), said = [];
		const look = (what, messages = list, complete = true) => said.push(what + ": " + mark.isBehind(messages) + " " + (mark.lineIn(messages, complete)?.id ?? "no line"));
		mark.draw(); look("nothing is known");
		mark.learn("m2", list); look("told"); mark.draw(); look("drawn");
		look("what was read is not loaded", list.slice(2), false);
		mark.advance("m5"); look("read on");
		mark.learn("m3", list); look("the broker is behind");
		mark.draw(); look("all was read: drawn anew");
		mark.erase(); look("erased");
		const other = new ReadMark();
		other.learn("m1", list); other.draw(); other.draw(); said.push("it stays: " + other.lineIn(list, true).id);
		other.learn("m9", list); said.push("read elsewhere, and not loaded yet: " + other.id);
		const third = new ReadMark();
		third.learn("m3", list);
		said.push("own ones: " + third.isBehind(list.slice(0, 4)), "what is sent to peers: " + third.isBehind([...list.slice(0, 3), { id: "x", note: "outside" }]));
		const fresh = new ReadMark();
		fresh.learn("", list); fresh.draw(); said.push("nothing was read: " + fresh.isBehind(list) + " " + fresh.lineIn(list, true).id + " " + fresh.lineIn(list, false));
		return said;
	}`)
	want := []string{
		"nothing is known: false no line", "told: true no line", "drawn: true m3", "what was read is not loaded: true no line", "read on: false m3",
		"the broker is behind: false m3", "all was read: drawn anew: false no line", "erased: false no line", "it stays: m2", "read elsewhere, and not loaded yet: m9", "own ones: false", "what is sent to peers: false",
		"nothing was read: true m1 null",
	}
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
		until(`() => document.querySelector("dialog .toggle input").checked && notes.splice(0).join() === "This is how meshbox tells you: Somebody has mentioned you."`), key("Escape"), gone("dialog"),
		click("#topic-new"), write(`dialog [name=name]`, "elsewhere"), key("Enter"), shows("#topic-button", "#elsewhere"))
	said(t, claude, "general", "no mention")
	said(t, claude, "general", "**@Olga** look at `this`")
	do(t, h.page, until(`() => notes.length > 0`))
	if notes := js[string](t, h.page, `notes.join("|")`); notes != "claude in #general: @Olga look at this" {
		t.Errorf("notified of %s", notes)
	}
	asked(t, claude, &wire.TopicJoin{Topic: "elsewhere"})
	// Many at once are one notification; and what somebody looks at, in whichever tab, is none.
	for range 3 {
		said(t, claude, "general", "@olga again")
	}
	said(t, claude, "elsewhere", "@olga, you see this")
	do(t, h.page, until(`() => notes.length > 1`))
	if notes := js[string](t, h.page, `notes.slice(1).join("|")`); notes != "3 mentions in home: From claude" {
		t.Errorf("notified of %s", notes)
	}
}
