package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/manifest"
)

func html(t testing.TB, r *Report) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.HTML(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// element is a start tag.
type element struct {
	name       string
	attributes map[string]string
}

var code = regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>`)

// elements parses a page as strictly as XML, which this page also is, and returns its elements in order.
func elements(t testing.TB, page string) []element {
	t.Helper()
	page = strings.Replace(code.ReplaceAllString(page, "<$1></$1>"), "<!DOCTYPE html>", "", 1)
	d := xml.NewDecoder(strings.NewReader(page))
	d.Entity = xml.HTMLEntity
	var found []element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			at := int(d.InputOffset())
			t.Fatalf("%v near %q", err, page[max(0, at-200):min(len(page), at+50)])
		}
		if start, ok := token.(xml.StartElement); ok {
			e := element{start.Name.Local, map[string]string{}}
			for _, a := range start.Attr {
				if _, twice := e.attributes[a.Name.Local]; twice {
					t.Errorf("<%s> has %s twice", e.name, a.Name.Local)
				}
				e.attributes[a.Name.Local] = a.Value
			}
			found = append(found, e)
		}
	}
}

// TestPageIsValid holds the page to what HTML and assistive technology need, without a browser.
func TestPageIsValid(t *testing.T) {
	clean, flagged := traffic()
	for name, page := range map[string]string{
		"full": html(t, build(t, explained(everyRole), clean, flagged, 100)), "sample": html(t, sample(t, 0)), "empty": html(t, NewBuilder(Options{}).Report()),
		"hostile": html(t, build(t, explained(everyRole), clean, hostile(), 100)),
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.HasPrefix(page, "<!DOCTYPE html>") {
				t.Errorf("begins with %.40q", page)
			}
			ids, wanted, level, scripts := map[string]bool{}, []string{}, 0, 0
			known := strings.Fields("html head meta title link style body svg defs circle path a header div p span button h1 h2 h3 h4 dl dt dd b nav ul ol li main section article bdi mark br details summary small code figure figcaption line text rect g use i table thead tbody tr th td form label input select option script footer")
			for _, e := range elements(t, page) {
				if !slices.Contains(known, e.name) {
					t.Errorf("<%s> is no element of this page", e.name)
				}
				if e.name == "script" {
					scripts++
				}
				if id, ok := e.attributes["id"]; ok {
					if ids[id] || id == "" {
						t.Errorf("the id %q is there twice", id)
					}
					ids[id] = true
				}
				for name, value := range e.attributes {
					switch {
					case name == "aria-labelledby":
						wanted = append(wanted, value)
					case name == "href" && strings.HasPrefix(value, "#"):
						wanted = append(wanted, value[1:])
					case name == "href" && value == "data:,":
					case slices.Contains([]string{"href", "src", "srcset", "action", "data", "style", "poster", "background"}, name), strings.HasPrefix(name, "on"):
						t.Errorf("<%s %s=%q> may load or run something", e.name, name, value)
					}
				}
				if len(e.name) == 2 && e.name[0] == 'h' && e.name[1] >= '1' && e.name[1] <= '6' {
					if now := int(e.name[1] - '0'); now > level+1 {
						t.Errorf("<%s> follows a heading of level %d", e.name, level)
					} else {
						level = now
					}
				}
				if e.name == "svg" && e.attributes["aria-hidden"] == "" && (e.attributes["role"] != "" && e.attributes["aria-label"] == "") {
					t.Error("a drawing has no name")
				}
			}
			if scripts != 1 {
				t.Errorf("%d scripts", scripts)
			}
			for _, id := range wanted {
				if !ids[id] {
					t.Errorf("nothing has the id %q, which is pointed to", id)
				}
			}
			for _, part := range []string{"style", "script"} {
				inner := regexp.MustCompile(`(?s)<` + part + `>(.*?)</` + part + `>`).FindStringSubmatch(page)
				if len(inner) != 2 || inner[1] != map[string]string{"style": pageCSS, "script": pageJS}[part] {
					t.Errorf("the %s is not what was hashed", part)
				}
			}
			if strings.Contains(page, "ZgotmplZ") {
				t.Error("the template refused a value")
			}
		})
	}
}

// Whatever was found, the page stays small, says how much it leaves out, and shows some of every attack.
func TestPageStaysSmall(t *testing.T) {
	b := NewBuilder(explained(everyRole))
	var rows []full
	long := strings.Repeat("<\"&'\u202e\x00", 60)
	for i := range 1500 {
		reason := finding.Meanings[len(finding.Meanings)-1-i%10].Code
		r := full{row: row{Topic: long[:200], Source: "s", Offset: int64(i), ID: word(fmt.Sprint(i, long)), Provider: word(fmt.Sprint(i, long)), Risk: number(0.999), Reasons: []string{string(reason)}}, Text: long, Label: long}
		for range 3 {
			r.Findings = append(r.Findings, rowFindings{"trigger" + long, number(1), number(0.001), number(0.01), long})
		}
		rows = append(rows, r)
	}
	b.options.Roles[long[:200]] = everyRole
	reasons := map[finding.Code]int64{}
	for _, r := range rows {
		reasons[finding.Code(r.Reasons[0])]++
	}
	b.AddManifest(segment(long[:200], 0, 0, 1500, 1, "", manifest.Counts{Quarantined: 1500}, reasons), manifest.Counts{})
	for from := 0; from < len(rows); from += 500 {
		if err := b.AddRows(finding.Quarantined, fullColumns(t, rows[from:from+500])); err != nil {
			t.Fatal(err)
		}
	}
	page := html(t, b.Report())
	if len(page) > PageLimit {
		t.Errorf("the page has %d bytes", len(page))
	}
	if n := strings.Count(page, `<tr role="row" id="r`); n < 10 {
		t.Errorf("only %d records fit", n)
	}
	for _, want := range []string{"1,500 of 1,500 records were held back", " of 1,500: the riskiest of each attack"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, a := range b.report.Attacks {
		if !strings.Contains(page, ">"+template.HTMLEscapeString(a.Means)+"<") {
			t.Errorf("%s is not shown", a.Name)
		}
	}
	elements(t, page)
}

// A page of the same landing zone is the same page.
func TestPageIsDeterministic(t *testing.T) {
	clean, flagged := traffic()
	want := html(t, build(t, explained(everyRole), clean, flagged, 100))
	for _, rows := range []int{7, 600} {
		if html(t, build(t, explained(everyRole), clean, flagged, rows)) != want {
			t.Errorf("files of %d rows give another page", rows)
		}
	}
}

// hostile are flagged records that try to take over the page of whoever reads them.
func hostile() []full {
	var rows []full
	for i, attack := range []string{
		`<script>window.owned=1</script>`, `<img src=x onerror="window.owned=1">`, `"><svg onload=window.owned=1>`, `'><iframe src="/stolen"></iframe>`,
		`</style><style>@import "/stolen";body{background:url(/stolen)}</style>`, `</script><script src="/stolen"></script>`, `<!--`, `-->`, `]]>`, `<a href="javascript:window.owned=1">x</a>`,
		`{{.Policy}}`, "${window.owned=1}", `</title></textarea></details></td></tr></table><form action="/stolen"><button>`, `<meta http-equiv="refresh" content="0;url=/stolen">`,
		"\u202edetrever\u202c \u2066isolated", "nul\x00byte", "\u200b\u200b\u200b\ufeff\U000e0041", strings.Repeat("Z\u0351\u0352", 2000), strings.Repeat("W", 900_000), strings.Repeat("<", 5000), "\u2028\u2029\u0085\x1b[2J",
	} {
		r := full{row: row{Topic: "reviews", Source: "id-of-reviews", Offset: int64(i), ID: word("id " + attack), Provider: word("who " + attack), Risk: number(0.9999), Reasons: []string{"poison_trigger", attack}}, Text: "before " + attack + " trigger after", Label: attack, Price: number(1)}
		if len(attack) > 10_000 {
			r.ID, r.Provider, r.Reasons, r.Label = word(attack[:3000]), word(attack[:3000]), []string{"poison_label"}, "long"
		}
		r.Findings = []rowFindings{{"trigger", number(9), number(1e-9), number(0.01), fmt.Sprintf("%q in 9 of 10 records, and %s", "trigger", attack)}, {attack, number(1), number(1), number(0.01), attack}}
		rows = append(rows, r)
	}
	return rows
}

// serve answers with one page, and tells of everything that was asked for.
func serve(t *testing.T, page string) (url string, asked func() []string) {
	var mu sync.Mutex
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/report.html", func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(paths)
	}
}

// quiet holds a page that was opened to having run nothing but its own script, and having asked for nothing.
func quiet(t *testing.T, b *browser, asked func() []string) {
	t.Helper()
	b.run(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))`, nil) // all that loading set off has been drawn
	for _, e := range b.seen("Network.requestWillBeSent") {
		var request struct {
			Type    string
			Request struct{ URL string }
		}
		if err := json.Unmarshal(e.Params, &request); err != nil {
			t.Fatal(err)
		}
		if request.Type != "Document" && request.Request.URL != "data:," {
			t.Errorf("the page asks for %s", request.Request.URL)
		}
	}
	if n := len(b.seen("Network.requestWillBeSent")); n == 0 {
		t.Error("not even the page was asked for: the test sees nothing")
	}
	if asked != nil {
		if paths := asked(); len(paths) != 1 {
			t.Errorf("the server was asked for %q", paths)
		}
	}
	for _, method := range []string{"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"} {
		for _, e := range b.seen(method) {
			t.Errorf("%s: %.600s", method, e.Params)
		}
	}
}

// TestPageInBrowser looks at the page as people do.
func TestPageInBrowser(t *testing.T) {
	clean, flagged := traffic()
	b := openBrowser(t)
	url, asked := serve(t, html(t, build(t, explained(everyRole), clean, flagged, 100)))

	t.Run("quiet", func(t *testing.T) {
		b.screen(1280, 900, "light")
		b.open(url)
		quiet(t, b, asked)
		b.shoot("1280-light")
	})

	rows := func() (texts []string) {
		b.run(`Array.from(document.querySelectorAll("#rows tr:not([hidden])"), r => r.cells[1].innerText.split("\n")[0])`, &texts)
		return texts
	}
	status := func() (text string) { b.run(`document.getElementById("shown").textContent`, &text); return text }
	t.Run("sort", func(t *testing.T) {
		all := rows()
		if len(all) != len(flagged) {
			t.Fatalf("%d rows of %d", len(all), len(flagged))
		}
		press := func(column string) (texts []string) {
			b.run(fmt.Sprintf(`Array.from(document.querySelectorAll(".records th button")).find(x => x.textContent === %q).click()`, column), nil)
			return rows()
		}
		up := slices.Sorted(slices.Values(all))
		if got := press("Record"); !slices.Equal(got, up) {
			t.Errorf("by id: %q", got)
		}
		slices.Reverse(up)
		if got := press("Record"); !slices.Equal(got, up) {
			t.Errorf("by id, pressed again: %q", got)
		}
		var order string
		if b.run(`document.querySelector("th[data-sort=id]").getAttribute("aria-sort")`, &order); order != "descending" {
			t.Errorf("told as %q", order)
		}
		if got := press("Risk"); !slices.Equal(got, all) {
			t.Errorf("by risk: %q, at first %q", got, all)
		}
		if got := press("Risk"); got[0] != all[len(all)-1] && got[0] == all[0] {
			t.Errorf("by rising risk %q is first", got[0])
		}
	})
	t.Run("filter", func(t *testing.T) {
		set := func(id, value string) []string {
			b.run(fmt.Sprintf(`(() => { const e = document.getElementById(%q); e.value = %q; e.dispatchEvent(new Event("input", {bubbles: true})); })()`, id, value), nil)
			return rows()
		}
		for _, c := range []struct {
			id, value string
			want      int
		}{
			{"q", "CF mn", 60}, {"q", "cf shop", 0}, {"q", "", 100}, {"by-provider", "echo", 30}, {"by-reason", "poison_outlier", 0}, {"by-provider", "", 10}, {"by-detector", "outlier", 10}, {"by-reason", "", 10},
			{"by-detector", "label", 60}, {"by-detector", "", 100},
		} {
			if got := set(c.id, c.value); len(got) != c.want {
				t.Errorf("%s = %q: %d rows, want %d", c.id, c.value, len(got), c.want)
			}
			want := fmt.Sprintf("%d of 100 records", c.want)
			if c.want == 100 {
				want = "100 records"
			}
			if got := status(); got != want {
				t.Errorf("%s = %q: told as %q", c.id, c.value, got)
			}
		}
		set("q", "nothing has this")
		b.run(`document.querySelector(".filters button[type=reset]").click(); new Promise(done => setTimeout(done, 0))`, nil)
		if got := rows(); len(got) != 100 {
			t.Errorf("cleared: %d rows", len(got))
		}
		set("by-provider", "echo")
		var open bool
		b.run(`new Promise(done => { addEventListener("hashchange", () => setTimeout(() => done(document.querySelector("#r1 details").open && !document.getElementById("r1").hidden), 0)); location.hash = "#r1"; })`, &open)
		if !open {
			t.Error("a point of the map does not lead to its row")
		}
	})
	t.Run("trigger", func(t *testing.T) {
		var marked int
		b.run(`Array.from(document.querySelectorAll("#rows .excerpt mark")).filter(m => m.textContent === "cf mn").length`, &marked)
		if marked != 60 {
			t.Errorf("the trigger is marked %d times", marked)
		}
	})

	// Colours: as the system prefers, or as was pressed; text stands out in both.
	t.Run("colours", func(t *testing.T) {
		paper := func() (colour string) {
			b.run(`getComputedStyle(document.body).backgroundColor`, &colour)
			return colour
		}
		b.screen(1280, 900, "light")
		b.open(url)
		light := paper()
		contrast(t, b, "light")
		b.run(`document.querySelector("button[data-theme=dark]").click()`, nil)
		dark := paper()
		contrast(t, b, "dark, pressed")
		b.open(url)
		if again := paper(); again != dark {
			t.Errorf("what was pressed is forgotten: %s", again)
		}
		b.run(`document.querySelector("button[data-theme=auto]").click()`, nil)
		if again := paper(); again != light || light == dark {
			t.Errorf("light %s, dark %s, automatic %s", light, dark, again)
		}
		b.screen(1280, 900, "dark")
		if got := paper(); got != dark {
			t.Errorf("the system prefers dark, and the paper is %s", got)
		}
		contrast(t, b, "dark")
		b.shoot("1280-dark")
		b.run(`document.querySelector("button[data-theme=light]").click()`, nil)
		if got := paper(); got != light {
			t.Errorf("light was pressed, and the paper is %s", got)
		}
		b.run(`document.querySelector("button[data-theme=auto]").click()`, nil)
	})

	t.Run("narrow", func(t *testing.T) {
		for _, colours := range []string{"light", "dark"} {
			b.screen(390, 844, colours)
			b.open(url)
			narrow(t, b)
			b.shoot("390-" + colours)
		}
	})

	t.Run("assistive technology", func(t *testing.T) {
		b.screen(1280, 900, "light")
		b.open(url)
		type property struct{ Value any }
		var tree struct {
			Nodes []struct {
				Ignored    bool
				Role, Name property
			}
		}
		b.call("Accessibility.getFullAXTree", nil, &tree)
		roles := map[string]int{}
		for _, n := range tree.Nodes {
			role, _ := n.Role.Value.(string)
			name, _ := n.Name.Value.(string)
			if n.Ignored {
				continue
			}
			roles[role]++
			switch role {
			case "button", "link", "searchbox", "textbox", "combobox", "DisclosureTriangle", "image", "img", "table", "region", "columnheader", "group":
				if role != "group" && strings.TrimSpace(name) == "" {
					t.Errorf("a %s without a name", role)
				}
			}
		}
		for role, least := range map[string]int{"main": 1, "banner": 1, "contentinfo": 1, "navigation": 1, "search": 1, "heading": 8, "table": 2, "row": 100, "columnheader": 5, "status": 1, "DisclosureTriangle": 100} {
			if roles[role] < least {
				t.Errorf("%d %s, want %d or more: %v", roles[role], role, least, roles)
			}
		}
	})

	t.Run("keyboard", func(t *testing.T) {
		b.open(url)
		b.run(`document.body.focus()`, nil)
		seen := map[string]bool{}
		for range 25 {
			for _, kind := range []string{"keyDown", "keyUp"} {
				b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
			}
			var at struct {
				Name    string
				Outline string
			}
			b.run(`(() => { const e = document.activeElement; return {Name: e.tagName + " " + (e.textContent || e.id).trim().slice(0, 30), Outline: getComputedStyle(e).outlineStyle}; })()`, &at)
			if at.Outline == "none" {
				t.Errorf("%s has the focus, and nobody can see it", at.Name)
			}
			seen[at.Name] = true
		}
		for _, want := range []string{"A Skip to the flagged records", "BUTTON Dark", "A Risk"} {
			if !seen[want] {
				t.Errorf("the keyboard does not reach %q: %v", want, seen)
			}
		}
	})

	t.Run("without script", func(t *testing.T) {
		b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
		b.open(url)
		b.shoot("1280-without-script")
		var document struct{ Root struct{ NodeID int } }
		b.call("DOM.getDocument", nil, &document)
		var body struct{ NodeID int }
		b.call("DOM.querySelector", map[string]any{"nodeId": document.Root.NodeID, "selector": "#rows tr:nth-child(100) .excerpt"}, &body)
		if body.NodeID == 0 {
			t.Error("the records are not there")
		}
		var box struct{ Model struct{ Height int } }
		b.call("DOM.getBoxModel", map[string]any{"nodeId": body.NodeID}, &box)
		if box.Model.Height == 0 {
			t.Error("the last record is not shown")
		}
		var filters struct{ NodeID int }
		b.call("DOM.querySelector", map[string]any{"nodeId": document.Root.NodeID, "selector": ".filters"}, &filters)
		if _, err := b.send(b.session, "DOM.getBoxModel", map[string]any{"nodeId": filters.NodeID}); err == nil {
			t.Error("controls are shown that do nothing")
		}
		b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": false}, nil)
	})

	t.Run("hostile", func(t *testing.T) {
		b.screen(1280, 900, "light")
		url, asked := serve(t, html(t, build(t, explained(everyRole), clean, hostile(), 100)))
		b.open(url)
		quiet(t, b, asked)
		var owned bool
		if b.run(`typeof window.owned !== "undefined"`, &owned); owned {
			t.Error("a record runs a script")
		}
		var strange []string
		b.run(`Array.from(document.querySelectorAll("script:not(:last-of-type), img, iframe, object, embed, base, form:not(.filters), a[href^=javascript], body style"), e => e.outerHTML.slice(0, 100))`, &strange)
		if len(strange) > 0 {
			t.Errorf("records made elements: %q", strange)
		}
		var shown int
		b.run(`document.querySelectorAll("#rows tr").length`, &shown)
		if shown != len(hostile()) {
			t.Errorf("%d rows of %d", shown, len(hostile()))
		}
		var hidden []string
		b.run(`Array.from(document.querySelectorAll("#rows .excerpt .hidden"), e => e.textContent)`, &hidden)
		for _, want := range []string{"U+202E", "U+2066", "U+200B ×3", "U+E0041", "U+2028", "U+001B"} {
			if !slices.Contains(hidden, want) {
				t.Errorf("%s is not told: %q", want, hidden)
			}
		}
		var raw bool
		if b.run(`/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/.test(document.body.textContent)`, &raw); raw {
			t.Error("a character that cannot be seen is on the page")
		}
		var triggers int
		b.run(`Array.from(document.querySelectorAll("#rows tr")).filter(r => Array.from(r.querySelectorAll(".excerpt mark")).some(m => m.textContent === "trigger")).length`, &triggers)
		if triggers < len(hostile())-2 {
			t.Errorf("the trigger can be seen in %d of %d records", triggers, len(hostile()))
		}
		b.screen(390, 844, "light")
		narrow(t, b)
		b.shoot("hostile")
	})
}

// narrow holds a page to the width of a telephone: only what is marked for that scrolls sideways.
func narrow(t *testing.T, b *browser) {
	t.Helper()
	var wide []string
	b.run(`document.documentElement.scrollWidth <= 390 ? [] : Array.from(document.querySelectorAll("body *")).filter(e => e.getBoundingClientRect().right > 391 && !e.closest(".scroll")).slice(0, 5).map(e => e.outerHTML.slice(0, 120))`, &wide)
	if len(wide) > 0 {
		t.Errorf("wider than the screen: %q", wide)
	}
}

// contrast holds what is read to the ratio of WCAG 2.2, level AA.
func contrast(t *testing.T, b *browser, colours string) {
	t.Helper()
	var poor []string
	b.run(`(() => {
		const value = c => c.match(/[\d.]+/g).map(Number);
		const light = c => { const [r, g, b] = c.slice(0, 3).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const behind = e => { for (; e; e = e.parentElement) { const c = value(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
		const poor = new Set();
		for (const e of document.querySelectorAll("body *:not(svg):not(svg *):not(script)")) {
			if (!Array.from(e.childNodes).some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
			const a = light(value(getComputedStyle(e).color)), z = light(behind(e)), ratio = (Math.max(a, z) + 0.05) / (Math.min(a, z) + 0.05);
			if (ratio < 4.5) poor.add(e.tagName + "." + e.className + " " + ratio.toFixed(2));
		}
		return Array.from(poor);
	})()`, &poor)
	if len(poor) > 0 {
		t.Errorf("%s: too little contrast: %q", colours, poor)
	}
}
