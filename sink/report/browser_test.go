package report

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium, spoken to by the DevTools protocol over two pipes: JSON messages that end with a NUL
// byte, from the program on file 3 and to it on file 4. Nothing listens on a port.
type browser struct {
	t       *testing.T
	ctx     context.Context
	to      *os.File
	session string

	mu      sync.Mutex
	last    int
	waiting map[int]chan answer
	events  []event
	arrived chan struct{} // closed when the next event is there
	gone    error
}

type answer struct {
	Result json.RawMessage
	err    error
}

type event struct {
	Method string
	Params json.RawMessage
}

// chromium finds the browser, or ends the test by name: a machine without one is no reason to fail, and .ci/run lets no
// test skip.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no chromium to look at the page with")
	return ""
}

// openBrowser starts the browser with an empty tab.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := chromium(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	home := t.TempDir()
	arguments := []string{
		"--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check", "--disable-extensions",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps", "--mute-audio", "--force-color-profile=srgb",
		"--user-data-dir=" + filepath.Join(home, "profile"), "about:blank",
	}
	if os.Geteuid() == 0 { // its sandbox does not work for root
		arguments = append([]string{"--no-sandbox"}, arguments...)
	}
	command := exec.CommandContext(ctx, path, arguments...)
	command.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	theirs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.ExtraFiles = []*os.File{theirs, answers}
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	command.WaitDelay = 10 * time.Second
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	answers.Close()
	b := &browser{t: t, ctx: ctx, to: to, waiting: map[int]chan answer{}, arrived: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.listen(from)
	}()
	t.Cleanup(func() {
		_, _ = b.send("", "Browser.close", nil)
		cancel()
		_ = command.Wait()
		to.Close()
		<-read
		from.Close()
		if t.Failed() {
			t.Logf("the browser said: %s", said.Bytes()[:min(said.Len(), 4000)])
		}
	})
	var target struct{ TargetID string }
	b.must("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.must("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Network", "Runtime", "Log", "DOM", "Accessibility"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func (b *browser) listen(from *os.File) {
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			b.gone = fmt.Errorf("the browser is gone: %w", err)
			for id, c := range b.waiting {
				c <- answer{err: b.gone}
				delete(b.waiting, id)
			}
			close(b.arrived)
			b.arrived = make(chan struct{})
			b.mu.Unlock()
			return
		}
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(line[:len(line)-1], &m); err != nil {
			continue
		}
		b.mu.Lock()
		if m.ID != 0 {
			a := answer{Result: m.Result}
			if m.Error != nil {
				a.err = errors.New(m.Error.Message)
			}
			if c := b.waiting[m.ID]; c != nil {
				c <- a
				delete(b.waiting, m.ID)
			}
		} else {
			b.events = append(b.events, event{m.Method, m.Params})
			close(b.arrived)
			b.arrived = make(chan struct{})
		}
		b.mu.Unlock()
	}
}

func (b *browser) send(session, method string, params any) (json.RawMessage, error) {
	b.mu.Lock()
	if b.gone != nil {
		b.mu.Unlock()
		return nil, b.gone
	}
	b.last++
	id, c := b.last, make(chan answer, 1)
	b.waiting[id] = c
	b.mu.Unlock()
	message := map[string]any{"id": id, "method": method}
	if params != nil {
		message["params"] = params
	}
	if session != "" {
		message["sessionId"] = session
	}
	data, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	if _, err := b.to.Write(append(data, 0)); err != nil {
		return nil, err
	}
	select {
	case a := <-c:
		return a.Result, a.err
	case <-b.ctx.Done():
		return nil, b.ctx.Err()
	}
}

func (b *browser) must(session, method string, params, result any) {
	b.t.Helper()
	data, err := b.send(session, method, params)
	if err == nil && result != nil {
		err = json.Unmarshal(data, result)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

// call asks the tab.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.must(b.session, method, params, result)
}

// open loads a page and waits until it is there.
func (b *browser) open(url string) {
	b.t.Helper()
	b.mu.Lock()
	b.events = nil
	b.mu.Unlock()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	for {
		b.mu.Lock()
		arrived, gone := b.arrived, b.gone
		b.mu.Unlock()
		if gone != nil {
			b.t.Fatal(gone)
		}
		if len(b.seen("Page.loadEventFired")) > 0 {
			return
		}
		select {
		case <-arrived:
		case <-b.ctx.Done():
			b.t.Fatal(b.ctx.Err())
		}
	}
}

// seen returns the events of a kind since the last page was opened.
func (b *browser) seen(method string) (found []event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Method == method {
			found = append(found, e)
		}
	}
	return found
}

// run evaluates an expression in the page, and waits where it is a promise.
func (b *browser) run(expression string, result any) {
	b.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &out)
	if e := out.ExceptionDetails; e != nil {
		b.t.Fatalf("%s: %s %s", expression, e.Text, e.Exception.Description)
	}
	if result != nil {
		if err := json.Unmarshal(out.Result.Value, result); err != nil {
			b.t.Fatalf("%s: %v in %s", expression, err, out.Result.Value)
		}
	}
}

// screen sets the size of the window and the colours that the system prefers.
func (b *browser) screen(width, height int, colours string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": colours}}}, nil)
}

// shoot keeps a picture of the whole page for a person to look at, where TASTER_SCREENSHOTS names a folder.
func (b *browser) shoot(name string) {
	b.t.Helper()
	folder := os.Getenv("TASTER_SCREENSHOTS")
	if folder == "" {
		return
	}
	var picture struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &picture)
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), data, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
