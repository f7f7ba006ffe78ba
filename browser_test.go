package main

import (
	"context"
	"math"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// chromium starts Chromium with an empty profile, or skips the test.
func chromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("MESHBOX_REQUIRE_CHROMIUM") == "1" {
			t.Fatal("Chromium is required and was not found")
		}
		t.Skip("Chromium was not found; install it to run the browser tests (Debian: apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 800),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-background-networking", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	// The first run starts the browser, and it lives as long as that context.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("Chromium does not start: %v", err)
	}
	err := chromedp.Listen(ctx, func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			t.Errorf("the page threw: %+v", thrown.ExceptionDetails)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// newTab opens another tab in the browser of a page.
func newTab(t *testing.T, page context.Context) context.Context {
	t.Helper()
	tab, cancel := chromedp.NewContext(page)
	t.Cleanup(cancel)
	// As with the browser, the tab lives as long as the context of the first run.
	if err := chromedp.Do(tab, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return tab
}

// action is something done in a page.
type action = chromedp.Action[chromedp.Void]

// do runs browser actions, one after the other, with a test's patience.
func do(t *testing.T, ctx context.Context, actions ...action) {
	t.Helper()
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i, act := range actions {
		if err := chromedp.Do(bounded, act); err != nil {
			brief, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			page, _ := chromedp.Run(brief, chromedp.Evaluate[string]("location + '\\n' + document.body.innerText"))
			t.Fatalf("action %d: %v\nthe page shows:\n%s", i+1, err, page)
		}
	}
}

// get runs a browser action that has a result.
func get[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T {
	t.Helper()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// js evaluates an expression in the page.
func js[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	return get(t, ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits for a JavaScript condition: a function of the arguments.
func until(condition string, args ...any) action {
	wait := chromedp.PollFunction[bool]("(...args) => ("+condition+")(...args)",
		chromedp.WithPollingArgs(args...), chromedp.WithPollingTimeout(patience), chromedp.WithPollingInterval(50*time.Millisecond))
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := wait(ctx, target)
		return chromedp.Void{}, err
	}
}

// css is a selector; chromedp takes a plain string for a search.
type css = chromedp.CSS

// shows waits until an element has that text in it.
func shows(selector, text string) action {
	return until(`(selector, text) => [...document.querySelectorAll(selector)].some(e => e.checkVisibility({ visibilityProperty: true }) && e.textContent.includes(text))`, selector, text)
}

// gone waits until nothing that matches is to be seen.
func gone(selector string) action {
	return until(`(selector) => ![...document.querySelectorAll(selector)].some(e => e.checkVisibility({ visibilityProperty: true }))`, selector)
}

// click clicks what is to be seen, scrolled to or not.
func click(selector string) action {
	return chromedp.Steps(chromedp.WaitVisible(css(selector)), chromedp.Click(css(selector)))
}

// focusOn gives an element the focus, also one that is made anew again and again.
func focusOn(selector string) action {
	return until(`(selector) => { const e = document.querySelector(selector); e?.focus(); return e !== null && document.activeElement === e; }`, selector)
}

// write fills a field by typing.
func write(selector, text string) action {
	return chromedp.Steps(chromedp.WaitVisible(css(selector)), chromedp.SendKeys(css(selector), text))
}

// Modifiers of a key.
const (
	alt   = 1
	ctrl  = 2
	shift = 8
)

// key presses a key as a keyboard does, wherever the focus is. chromedp's own
// Enter comes with a separate character event, which types a line break even if
// the page took the key.
func key(name string, modifiers ...int64) action {
	codes := map[string]int64{"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35, "PageUp": 33}
	event := input.DispatchKeyEventParams{Key: name, Code: name, WindowsVirtualKeyCode: codes[name]}
	for _, m := range modifiers {
		event.Modifiers |= m
	}
	switch {
	case name == "Enter":
		event.Text = "\r"
	case len(name) == 1:
		event.Code = "Key" + name
		if len(modifiers) == 0 {
			event.Text = name
		}
	}
	press := func(kind input.DispatchKeyEventType) action {
		return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			sent := event
			sent.Type = kind
			if kind == input.DispatchKeyEventTypeKeyUp {
				sent.Text = ""
			}
			_, err := cdp.Call(ctx, target, input.DispatchKeyEvent, sent)
			return chromedp.Void{}, err
		}
	}
	return chromedp.Steps(press(input.DispatchKeyEventTypeKeyDown), press(input.DispatchKeyEventTypeKeyUp))
}

// types types into whatever has the focus.
func types(text string) action {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, input.InsertText, input.InsertTextParams{Text: text})
		return chromedp.Void{}, err
	}
}

// wheel turns the wheel over the messages by so many pixels, up if negative.
func wheel(pixels float64) action {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, input.DispatchMouseEvent, input.DispatchMouseEventParams{
			Type: input.DispatchMouseEventTypeMouseWheel, X: 640, Y: 400, DeltaX: math.SmallestNonzeroFloat64, DeltaY: pixels, // a zero would not be sent at all
		})
		return chromedp.Void{}, err
	}
}

// size sets the size of the window; mobile ones have a finger instead of a pointer.
func size(width, height int64, mobile bool) action {
	if !mobile {
		return chromedp.EmulateViewport(width, height)
	}
	return chromedp.EmulateViewport(width, height, chromedp.EmulateMobile, chromedp.EmulateTouch)
}

// media sets a media feature, such as prefers-color-scheme.
func media(name, value string) action {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: name, Value: value}},
		})
		return chromedp.Void{}, err
	}
}

// downloadsTo lets the page download files into a folder.
func downloadsTo(folder string) action {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, target, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
			Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: folder,
		})
		return chromedp.Void{}, err
	}
}

const (
	joinName = css("#join-name")
	composer = css("#composer")
	banner   = css("#banner")
)

// sees waits until a message with this text is in the room, and its author.
func sees(author, text string) action {
	return until(`(author, text) => [...document.querySelectorAll("[data-message-id] .message-text")].some(m => m.textContent === text)
		&& document.querySelector("#messages").textContent.includes(author)`, author, text)
}

// says types a message and sends it with Enter.
func says(text string) action {
	return chromedp.Steps(chromedp.SendKeys(composer, text), key("Enter"))
}

// enter joins by a link as name, and ends in the room.
func enter(link, name string) action {
	return chromedp.Steps(
		chromedp.Navigate(link), chromedp.WaitVisible(joinName),
		chromedp.SendKeys(joinName, name+kb.Enter), chromedp.WaitVisible(composer), until(`() => document.querySelector("#connection").dataset.phase === "online"`),
	)
}
