package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// markdownTools puts two functions into the page:
//
// show(node) is the DOM below a node in a short form. A block stands on a line of
// its own, its blocks indented below it; what is inline, and a table's cells, on
// the line of its block. Attributes that an element always has are left out, and
// are complained about when they miss. A line break is ⏎, an invisible character
// ‹U+hex›.
//
// offences(node) lists everything below a node that a message must never become.
const markdownTools = `() => {
	const INLINE = ["A", "CODE", "EM", "STRONG", "DEL", "SPAN", "INPUT", "BUTTON", "TH", "TD"];
	const ALWAYS = {
		A: { target: "_blank", rel: "noopener noreferrer", dir: "auto" },
		BUTTON: { type: "button", class: "copy", "aria-live": "polite" },
		DIV: { class: "table", tabindex: "0", role: "region", "aria-label": "Table" },
		FIGURE: { class: "code" },
		INPUT: { type: "checkbox", disabled: "" },
		PRE: { tabindex: "0" },
	};
	const ALLOWED = {
		A: ["href", "title"], LI: ["class", "value"], OL: ["start"], INPUT: ["aria-label"], SPAN: ["class", "title"],
		TD: ["class"], TH: ["class"],
		...Object.fromEntries("P H3 H4 H5 H6 HR BLOCKQUOTE UL CODE EM STRONG DEL FIGCAPTION BUTTON DIV FIGURE PRE TABLE THEAD TBODY TR".split(" ").map(tag => [tag, []])),
	};
	const visible = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("\n", "⏎")
		.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, char => "‹U+" + char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + "›");

	function tag(element) {
		let short = element.localName;
		const always = ALWAYS[element.tagName] ?? {};
		for (const { name, value } of element.attributes) {
			if (name === "class" && !("class" in always)) short += "." + value.replaceAll(" ", ".");
			else if (always[name] !== value) short += " " + name + "=" + JSON.stringify(visible(value));
		}
		for (const name in always) if (element.getAttribute(name) !== always[name]) short += " WITHOUT " + name;
		return "<" + short + (element.checked ? " checked" : "") + ">";
	}

	function lines(node, indent) {
		const below = [];
		let line = indent + (node.tagName ? tag(node) : "");
		for (const child of node.childNodes) {
			if (child.nodeType === Node.TEXT_NODE) line += visible(child.data);
			else if (!INLINE.includes(child.tagName)) {
				if (line.trim()) below.push(line);
				below.push(...lines(child, node.tagName ? indent + "  " : indent));
				line = "";
				continue;
			} else line += lines(child, "").join(" NOT INLINE ") + (child.tagName === "INPUT" ? "" : "</" + child.localName + ">");
			if (below.length && !line.startsWith(indent + " ")) line = indent + "  " + line;
		}
		return line.trim() ? [...below, line] : below;
	}

	window.show = node => lines(node, "").join("\n");
	window.offences = root => [...root.querySelectorAll("*")].flatMap(element => {
		const allowed = ALLOWED[element.tagName];
		if (!allowed || !(element instanceof HTMLElement)) return [element.tagName];
		const names = [...allowed, ...Object.keys(ALWAYS[element.tagName] ?? {})];
		const found = element.getAttributeNames().filter(name => !names.includes(name)).map(name => element.tagName + " " + name);
		if (element.href && !["http:", "https:", "mailto:"].includes(element.protocol)) found.push(element.href);
		return found;
	});
	return true;
}`

// markdownPage is a page with the tools above.
func markdownPage(t *testing.T) context.Context {
	t.Helper()
	page := modules(t)
	evaluate[bool](t, page, markdownTools)
	return page
}

type markdownCase struct{ name, text, want string }

var invisible = regexp.MustCompile(`‹U\+([0-9A-F]+)›`)

// readMarkdownCases reads testdata/web/markdown.txt, which says how it is read.
func readMarkdownCases(t *testing.T) (cases []markdownCase) {
	t.Helper()
	file, err := os.ReadFile("testdata/web/markdown.txt")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split("\n"+string(file), "\n%% ")
	for _, part := range parts[1:] {
		given, rest, found := strings.Cut(part, "\n%%\n")
		name, text, _ := strings.Cut(given, "\n")
		want, _, _ := strings.Cut(rest, "\n\n")
		if !found {
			t.Fatalf("the case %q has no line %%%% before what is expected", name)
		}
		text = invisible.ReplaceAllStringFunc(text, func(code string) string {
			char, _ := strconv.ParseInt(invisible.FindStringSubmatch(code)[1], 16, 32)
			return string(rune(char))
		})
		cases = append(cases, markdownCase{name, text, strings.TrimSuffix(want, "\n")})
	}
	return cases
}

// difference is a text beside the one that was wanted, line by line.
func difference(got, want string) string {
	var out strings.Builder
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		switch {
		case i < len(a) && i < len(b) && a[i] == b[i]:
			fmt.Fprintf(&out, "  %s\n", a[i])
			continue
		case i < len(a):
			fmt.Fprintf(&out, "- %s\n", a[i])
		}
		if i < len(b) {
			fmt.Fprintf(&out, "+ %s\n", b[i])
		}
	}
	return out.String()
}

func TestMarkdown(t *testing.T) {
	page := markdownPage(t)
	type rendered struct {
		Shown    string
		Offences []string
	}
	for _, c := range readMarkdownCases(t) {
		t.Run(c.name, func(t *testing.T) {
			got := evaluate[rendered](t, page, `async (text) => {
				const { markdown } = await import("/markdown.js");
				const known = new Map(Object.entries({ me: ["me", ""], claude: ["", ""], "ann.b-c": ["", ""], Ada: ["", " Lovelace"] }));
				const fragment = markdown(text, { mention: (name, after) => {
					const [className, more] = known.get(name) ?? [];
					return more !== undefined && after.startsWith(more) ? { className, more } : null;
				} });
				return { Shown: show(fragment), Offences: offences(fragment) };
			}`, c.text)
			if got.Shown != c.want {
				t.Errorf("%s\nbecame (- wanted, + got)\n%s", c.text, difference(got.Shown, c.want))
			}
			if len(got.Offences) > 0 {
				t.Errorf("%s\nbecame, among others, %q", c.text, got.Offences)
			}
		})
	}
}

func TestMarkdownPlain(t *testing.T) {
	page := markdownPage(t)
	for _, c := range []struct {
		name, text string
		limit      int
		want       string
	}{
		{"empty", "", 20, ""},
		{"white space", " \n\n\t", 20, ""},
		{"as it is", "hello", 20, "hello"},
		{"exactly", "hello", 5, "hello"},
		{"too long", "hello there", 5, "hell…"},
		{"no space before the ellipsis", "a hello there", 3, "a…"},
		{"marks", "# One *two* **`three`**\n~~four~~ \\*five", 80, "One two three four *five"},
		{"blocks", "- a\n  - b\n- [x] c\n\n> d\n\n1. e\n---\nf", 80, "a b c d e f"},
		{"link", "see [the *docs*](https://example.com/) and ![a cat](https://example.com/cat.png)", 80, "see the docs and a cat"},
		{"code", "run\n```sh\ngo  test\n\ngo vet\n```", 80, "run go test go vet"},
		{"table", "| a | b |\n|---|---|\n| 1 | 2 |", 80, "a b 1 2"},
		{"mention", "@claude: look", 80, "@claude: look"},
		{"a character is not cut in two", "👍👍👍", 2, "👍…"},
		{"long", strings.Repeat("**word** ", 5_000), 12, "word word w…"},
		{"long address", "[link](https://example.com/" + strings.Repeat("a", 1_900) + ") x", 12, "[link](http…"},
		{"blank first", strings.Repeat("\n", 40_000) + "text", 12, "text"},
		{"markup is text", "<b>bold</b> &amp;", 80, "<b>bold</b> &amp;"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := evaluate[string](t, page, `async (text, limit) => (await import("/markdown.js")).plain(text, limit)`, c.text, c.limit)
			if got != c.want {
				t.Errorf("plain(%.80q, %d) = %q, want %q", c.text, c.limit, got, c.want)
			}
		})
	}
}

// hostile are texts that are hard for a careless parser, each as long as a
// message may be.
func hostile() map[string]string {
	const size = 48_000
	texts := map[string]string{
		"staircase of lists":  staircase("- ", size),
		"staircase of quotes": staircase("> ", size),
		"wide table":          strings.Repeat("|a", size/6) + "\n" + strings.Repeat("|-", size/6) + strings.Repeat("\n|", size/6),
		"row of cells":        "|a|\n|-|\n" + strings.Repeat("|", size),
		"many lengths":        rising("`", size),
		"nested emphasis":     strings.Repeat("*a ", size/6) + strings.Repeat("a* ", size/6),
		"emphasis both ways":  strings.Repeat("*a **b ", size/14) + strings.Repeat("b** a* ", size/14),
		"nested images":       strings.Repeat("![", size/18) + strings.Repeat("](http://a/)", size/18),
		"nested brackets":     strings.Repeat("[", size/2) + strings.Repeat("]", size/2),
		"spaces in a link":    "[a](http://a" + strings.Repeat(" ", size),
		"spaces in a line":    "-" + strings.Repeat(" ", size) + "a",
		"spaces in a heading": "# a" + strings.Repeat(" ", size) + "b",
		"hashes":              "# " + strings.Repeat("#", size) + "a",
		"hashes apart":        "# " + strings.Repeat(" #", size/2) + "a",
		"dashes below a bar":  "|a\n|" + strings.Repeat("-", size) + "a",
		"trimmed name":        "@a" + strings.Repeat("-", size) + "b",
		"parentheses":         "[a](http://a" + strings.Repeat("(a)", size/3),
	}
	for _, part := range []string{
		"[", "]", "(", "*", "_", "~", "`", ">", "#", "|", "-", "\\", "<", "!", "@", "&", "\n", "\t", " \n", "\r", "a",
		"- ", "* ", "1. ", "> ", "> - ", "- > ", "[]", "[](", "[a](", "[a](b", "[a](<", "![[", "![a](", "[[a](b)", "](", "[a][b]",
		"a_", "_a", "*a", "a*", "**a", "a**", "***a", "*a **b ", "*a _b ~~c ", "~~a", "a~~", "`a", "``a`", "\\`", "\\[", "*`", "[`", "`[",
		"<http:", "<https://a", "http://", "http://[", "https://a*", "https://a(", "https://a)", "http://a](", "[http://", "@a", "@a-", "@a@", "a@",
		"|\n", "|a|\n|-|\n", "|a\n", "a|", "a\n|-|\n", "-\n", "- a\n", "- a\n\n", "- a\n* a\n", "1. a\n", "2) a\n", "> a\n", ">\n", "> a\n\n", "# a\n",
		"```\n", "```a\n", "~~~\n", "---\n", "- - ", "* * ", "_ _", "- [ ] a\n", "[a](http://a \"", "[a](http://a '", "[a](http://a)", "![a](http://a)", "é*", "漢**", "👍_",
	} {
		texts["repeated "+strconv.Quote(part)] = strings.Repeat(part, size/len(part))
	}
	return texts
}

// staircase is a mark, indented by two more on each line.
func staircase(mark string, size int) string {
	var text strings.Builder
	for indent := 0; text.Len() < size; indent += 2 {
		text.WriteString(strings.Repeat(" ", indent) + mark + "a\n")
	}
	return text.String()
}

// rising is runs of a mark, each longer than the one before.
func rising(mark string, size int) string {
	var text strings.Builder
	for length := 1; text.Len() < size; length++ {
		text.WriteString(strings.Repeat(mark, length) + "a")
	}
	return text.String()
}

// checkMarkdown is a function that renders a text and lists what is wrong with
// the result; letters that are left out are.
const checkMarkdown = `async (text, mayHide) => {
	const { markdown, plain } = await import("/markdown.js");
	const before = performance.now();
	const fragment = markdown(text, { mention: () => ({ className: "", more: "" }) });
	const Milliseconds = performance.now() - before;
	const Offences = offences(fragment);
	if ([...plain(text, 20)].length > 20) Offences.push("the excerpt is too long");
	for (const label of fragment.querySelectorAll("button")) label.remove();
	const letters = (text) => text.replace(/[^\p{L}]/gu, "");
	// The address of a link is no text, nor is the x of a ticked box.
	if (!mayHide && letters(fragment.textContent) !== letters(text)) Offences.push("text is missing: " + fragment.textContent.slice(0, 80));
	let Depth = 0;
	for (const element of fragment.querySelectorAll("*")) {
		let depth = 0;
		for (let up = element; up; up = up.parentElement) depth++;
		Depth = Math.max(Depth, depth);
	}
	if (Depth > 50) Offences.push("elements are nested " + Depth + " deep");
	return { Milliseconds, Offences };
}`

type checked struct {
	Milliseconds float64
	Offences     []string
}

func TestMarkdownHostile(t *testing.T) {
	page := markdownPage(t)
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			// What is a link indeed shows its address elsewhere.
			got := evaluate[checked](t, page, checkMarkdown, text, strings.Contains(text, "](http://a)") || strings.Contains(text, "](http://a/)"))
			if len(got.Offences) > 0 {
				t.Errorf("%.40q… became %.400q", text, got.Offences)
			}
			t.Logf("%.0f ms", got.Milliseconds)
		})
	}
}

// scramble makes texts out of pieces; the same ones in every run.
func scramble(pieces []string, count int) []string {
	random := rand.New(rand.NewPCG(1, uint64(len(pieces))))
	texts := make([]string, count)
	for i := range texts {
		var text strings.Builder
		for range 1 + random.IntN(40) {
			text.WriteString(pieces[random.IntN(len(pieces))])
		}
		texts[i] = text.String()
	}
	return texts
}

func TestMarkdownScrambled(t *testing.T) {
	// These pieces make no link, no label of a code block and no task.
	pieces := strings.Split("a|b c|é|漢|👍| |  |    |\t|\n|\n\n|*|**|***|_|__|~~a|a~~|`a|a`|[|]|(|)|!|<|>|> |#|# |## |-|- |+ |1. |23) |---|\\|@|@a|.|:|/|&|\"|'|\u202e|\x00", "|")
	pieces = append(pieces, "|", "| ", "|-|", "|:-|-:|\n")
	marked := append([]string{
		"http://", "https://a.b/c", "](", "](https://a.b)", "](javascript:a)", "<https://a>", "mailto:", "javascript:", "<a href=", "onclick=", "```", "```a\n", "~~~\n",
		"- [ ] ", "- [x] ", "![", "&lt;", "&#106;", "data:text/html,",
	}, pieces...)
	page := markdownPage(t)
	for _, set := range []struct {
		name    string
		texts   []string
		mayHide bool
	}{{"keeps the text", scramble(pieces, 3000), false}, {"keeps to what is allowed", scramble(marked, 3000), true}} {
		t.Run(set.name, func(t *testing.T) {
			wrong := evaluate[[]string](t, page, `async (texts, mayHide) => {
				const check = `+checkMarkdown+`;
				const wrong = [];
				for (const text of texts) {
					const { Offences } = await check(text, mayHide).catch((error) => ({ Offences: [error.stack] }));
					if (Offences.length) wrong.push(JSON.stringify(text) + " became " + Offences);
				}
				return wrong.slice(0, 5);
			}`, set.texts, set.mayHide)
			for _, sentence := range wrong {
				t.Error(sentence)
			}
		})
	}
}

func TestMarkdownCodeIsCopied(t *testing.T) {
	page := markdownPage(t)
	const code = "if a < b && c {\n\tprint(\"*\")\n}\n"
	evaluate[bool](t, page, `async (text) => {
		const { markdown } = await import("/markdown.js");
		document.body.replaceChildren(markdown(text));
		navigator.clipboard.writeText = async (text) => { window.copied = text };
		return true;
	}`, "```go main.go\n"+code+"\n```")
	html := get(t, page, chromedp.Evaluate[string](`document.querySelector("figure").outerHTML`))
	want := `<figure class="code"><figcaption><span class="language" title="go main.go">go</span>` +
		`<button type="button" class="copy" aria-live="polite">Copy</button></figcaption>` +
		"<pre tabindex=\"0\"><code>if a &lt; b &amp;&amp; c {\n\tprint(\"*\")\n}\n</code></pre></figure>"
	if html != want {
		t.Errorf("the block is\n%s\nwant\n%s", html, want)
	}

	const button = css("button.copy")
	says := func(label string) chromedp.Action[chromedp.Void] {
		return until(`label => document.querySelector("button.copy").textContent === label`, label)
	}
	do(t, page, chromedp.Click(button), says("Copied"))
	if copied := get(t, page, chromedp.Evaluate[string](`window.copied`)); copied != code {
		t.Errorf("copied %q, want %q", copied, code)
	}
	do(t, page, says("Copy"))

	evaluate[bool](t, page, `() => { navigator.clipboard.writeText = () => Promise.reject(new Error("not allowed")); return true }`)
	do(t, page, chromedp.Click(button), says("Press Ctrl+C"))
	if selected := get(t, page, chromedp.Evaluate[string](`getSelection().toString()`)); strings.TrimSpace(selected) != strings.TrimSpace(code) {
		t.Errorf("selected %q, want %q", selected, code)
	}
	do(t, page, says("Copy"))
}
