package server_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

// browser starts a headless Chromium, or says why not.
func browser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("GRAVEN_REQUIRE") == "all" {
			t.Fatal("no Chromium on the PATH, and GRAVEN_REQUIRE=all wants every test")
		}
		t.Skip("no Chromium on the PATH: the page is not looked at (apt-get install chromium)")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.UserDataDir(t.TempDir()))
	ctx, cancelAll := chromedp.NewExecAllocator(t.Context(), opts...)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		cancelTab()
		cancelAll()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return ctx
}

// look runs actions and keeps a picture for people if GRAVEN_SCREENSHOTS names
// a folder.
func look(ctx context.Context, t *testing.T, picture string, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatalf("%s: %v", picture, err)
	}
	dir := os.Getenv("GRAVEN_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatalf("%s: %v", picture, err)
	}
	if err := os.WriteFile(filepath.Join(dir, picture+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// holds waits for a JavaScript expression to be true.
func holds(expression string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, tab *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.PollFunction[bool]("() => !!("+expression+")",
			chromedp.WithPollingInterval(50*time.Millisecond))(ctx, tab)
		if err != nil {
			err = fmt.Errorf("%s: %w", expression, err)
		}
		return chromedp.Void{}, err
	}
}

// shows waits until an element's text contains a word.
func shows(selector, word string) chromedp.Action[chromedp.Void] {
	return holds("[...document.querySelectorAll(" + quote(selector) + ")].some(n => n.textContent.includes(" + quote(word) + "))")
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `\'`) + "'" }

// dark and narrow is how somebody on call sees it.
func dark(ctx context.Context, tab *chromedp.Target) (chromedp.Void, error) {
	_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	})
	if err != nil {
		return chromedp.Void{}, err
	}
	return chromedp.EmulateViewport(480, 900)(ctx, tab)
}

// The page shows an empty cluster, then daemons and a log, then a daemon that
// goes down though nobody reloads, and says when the server itself is lost.
func TestPage(t *testing.T) {
	ctx := browser(t)
	c := start(t, setup{server: server.Options{LoopbackOnly: true, Version: "test"}})
	look(ctx, t, "empty", chromedp.Navigate(c.url+"/"),
		shows("#link", "live"), shows("#daemon-body", "No daemon has registered yet"), shows("#log-body", "graven log create"))

	c.three()
	c.createLog("l1")
	c.register(daemonSpec{id: "d4", n: 4, ttl: 2, labels: map[string]string{"host": "d4"}})
	c.register(daemonSpec{id: "v1", n: 5, media: openapi.MediaVolatile})
	o := c.open("l1", `{"writer":{"name":"<b>bold</b>","host":"h1","pid":4711}}`)
	c.makePresent(o)
	look(ctx, t, "cluster",
		shows(`[data-daemon=d4]`, "up"), shows(`[data-log=l1]`, "present"), shows(`[data-log=l1]`, "<b>bold</b> on h1, pid 4711"),
		shows(`#alarm-list`, "volatile media lose everything"), shows(`[data-daemon=v1]`, "volatile"))
	look(ctx, t, "down", shows(`[data-daemon=d4]`, "went down"), shows(`#alarm-list`, "daemon d4 is down"))

	if a := c.do(http.MethodDelete, "/v1/daemons/d4", ""); a.status != http.StatusNoContent {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	look(ctx, t, "removed", holds(`!document.querySelector('[data-daemon=d4]')`))

	look(ctx, t, "dark", dark, shows("#link", "live"))
	c.stop()
	look(ctx, t, "lost", shows("#link", "connection lost"), shows("#lost", "No connection to the server"))
	c.restart()
	c.register(daemonSpec{id: "d6", n: 6})
	look(ctx, t, "back", shows("#link", "live"), shows(`[data-daemon=d6]`, "up"), holds(`document.getElementById('lost').hidden`))
}
