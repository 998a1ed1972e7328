package storagetest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and an object store, writes down every request, and makes some of them fail. Unlike a
// proxy of connections it can lose the answer to exactly one request.
type Proxy struct {
	Address string // host:port, for clients
	// Host is the Host header that the server sees; "": what the client sent, which S3 signs.
	Host string

	target string
	server *httptest.Server
	out    *http.Transport

	mu    sync.Mutex
	log   []string
	rules []*rule
}

type rule struct {
	kind  string
	left  int
	fault Fault
}

// Fault is what happens to a request. forward sends it on and returns the store's answer, whose body must be closed.
type Fault func(w http.ResponseWriter, r *http.Request, forward func(body io.Reader) (*http.Response, error))

// NewProxy runs a proxy in front of a store at host:port until the test ends.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p := &Proxy{target: target, out: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}}
	p.server = httptest.NewServer(p)
	p.Address = strings.TrimPrefix(p.server.URL, "http://")
	tb.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
		p.out.CloseIdleConnections()
	})
	return p
}

// Fail makes the next n requests of a kind (see Kind; "" is any) fail, all of them if n is negative.
func (p *Proxy) Fail(kind string, n int, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, &rule{kind, n, fault})
}

// Heal lets everything through again, and forgets what was written down.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.log = nil, nil
}

// Requests returns how many requests of a kind have come since the last Heal.
func (p *Proxy) Requests(kind string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, k := range p.log {
		if k == kind {
			n++
		}
	}
	return n
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := Kind(r)
	var fault Fault
	p.mu.Lock()
	p.log = append(p.log, kind)
	for _, rule := range p.rules {
		if rule.left != 0 && (rule.kind == "" || rule.kind == kind) {
			rule.left--
			fault = rule.fault
			break
		}
	}
	p.mu.Unlock()
	forward := func(body io.Reader) (*http.Response, error) { return p.forward(r, body) }
	if fault != nil {
		fault(w, r, forward)
		return
	}
	answer, err := forward(r.Body)
	if err != nil {
		cut(w) // as the store, or its absence, would
		return
	}
	defer answer.Body.Close()
	send(w, answer, -1)
}

func (p *Proxy) forward(r *http.Request, body io.Reader) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.target, ""
	if p.Host != "" {
		out.Host = p.Host
	}
	out.Header.Del("Expect")
	out.Body = io.NopCloser(body)
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	answer, err := p.out.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if to := answer.Header.Get("Location"); to != "" { // of a resumable upload: it must come by here too
		answer.Header.Set("Location", strings.Replace(to, p.target, p.Address, 1))
	}
	return answer, nil
}

// send passes an answer on, only the first n bytes of its body if n is not negative.
func send(w http.ResponseWriter, answer *http.Response, n int64) {
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	if answer.ContentLength >= 0 && w.Header().Get("Content-Length") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(answer.ContentLength, 10))
	}
	w.WriteHeader(answer.StatusCode)
	if n < 0 {
		_, _ = io.Copy(w, answer.Body)
		return
	}
	_, _ = io.CopyN(w, answer.Body, n)
	_ = http.NewResponseController(w).Flush()
	cut(w)
}

// cut closes the client's connection with no (more) answer.
func cut(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		c.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

// Answer answers in place of the store, which sees nothing of the request.
func Answer(status int, code string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ func(io.Reader) (*http.Response, error)) {
		_, _ = io.Copy(io.Discard, r.Body)
		body := `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>made up by a test</Message></Error>`
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("x-ms-error-code", code)
		if strings.HasPrefix(r.URL.Path, "/storage/") || strings.HasPrefix(r.URL.Path, "/upload/") || strings.HasPrefix(r.URL.Path, "/resumable/") {
			body = `{"error":{"code":` + strconv.Itoa(status) + `,"message":"made up by a test","errors":[{"reason":"` + code + `","message":"made up by a test"}]}}`
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, body)
		}
	}
}

// Refuse closes the connection before the store sees the request.
func Refuse(w http.ResponseWriter, _ *http.Request, _ func(io.Reader) (*http.Response, error)) {
	cut(w)
}

// Lose has the store do what was asked, and loses its answer.
func Lose(w http.ResponseWriter, r *http.Request, forward func(io.Reader) (*http.Response, error)) {
	if answer, err := forward(r.Body); err == nil {
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	cut(w)
}

var errCut = errors.New("cut by a test")

// CutRequest breaks both connections after n bytes of the request's body.
func CutRequest(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, forward func(io.Reader) (*http.Response, error)) {
		if answer, err := forward(io.MultiReader(io.LimitReader(r.Body, n), broken{})); err == nil {
			answer.Body.Close()
		}
		cut(w)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errCut }

// CutAnswer breaks the connection after n bytes of the answer's body.
func CutAnswer(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, forward func(io.Reader) (*http.Response, error)) {
		answer, err := forward(r.Body)
		if err != nil {
			cut(w)
			return
		}
		defer answer.Body.Close()
		send(w, answer, n)
	}
}

// Hang answers nothing for as long as the client waits.
func Hang(_ http.ResponseWriter, r *http.Request, _ func(io.Reader) (*http.Response, error)) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// Slow passes the answer on at so many bytes in ten milliseconds.
func Slow(bytes int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, forward func(io.Reader) (*http.Response, error)) {
		answer, err := forward(r.Body)
		if err != nil {
			cut(w)
			return
		}
		defer answer.Body.Close()
		answer.Body = struct {
			io.Reader
			io.Closer
		}{&drip{answer.Body, bytes}, answer.Body}
		send(w, answer, -1)
	}
}

// Unconditional has a write that loses succeed, as with a store that does not know conditions.
func Unconditional(w http.ResponseWriter, r *http.Request, forward func(io.Reader) (*http.Response, error)) {
	q := r.URL.Query()
	if q.Has("ifGenerationMatch") { // Google's answer describes the object, so there has to be one
		q.Del("ifGenerationMatch")
		r.URL.RawQuery = q.Encode()
	}
	answer, err := forward(r.Body)
	if err != nil {
		cut(w)
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusPreconditionFailed && answer.StatusCode != http.StatusConflict {
		send(w, answer, -1)
		return
	}
	w.Header().Set("ETag", `"0"`)
	if strings.HasPrefix(answer.Header.Get("Server"), "Azurite") {
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"0"</ETag></CompleteMultipartUploadResult>`)
}

type drip struct {
	from  io.Reader
	bytes int64
}

func (d *drip) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return d.from.Read(p[:min(int64(len(p)), d.bytes)])
}

// Kind says what a request asks of S3, Azure Blob Storage or Google Cloud Storage: put, begin, part, complete, abort,
// head, get, list or delete.
func Kind(r *http.Request) string {
	q, gcs := r.URL.Query(), strings.Contains(r.URL.Path, "/b/")
	switch r.Method {
	case http.MethodPost, http.MethodPut:
		switch {
		case q.Has("uploads"), q.Get("uploadType") == "resumable" && !q.Has("upload_id"):
			return "begin"
		case q.Has("upload_id"): // a resumable session of Google's: its last piece says how long all of it is
			if strings.HasSuffix(r.Header.Get("Content-Range"), "/*") {
				return "part"
			}
			return "complete"
		case q.Has("partNumber"), q.Get("comp") == "block":
			return "part"
		case q.Has("uploadId"), q.Get("comp") == "blocklist":
			return "complete"
		}
		return "put"
	case http.MethodDelete:
		if q.Has("uploadId") || q.Has("upload_id") {
			return "abort"
		}
		return "delete"
	case http.MethodHead:
		return "head"
	}
	switch {
	case q.Has("list-type"), q.Get("comp") == "list", gcs && strings.HasSuffix(r.URL.Path, "/o"):
		return "list"
	case gcs && q.Get("alt") == "json":
		return "head"
	}
	return "get"
}

// Dead returns an address that refuses connections.
func Dead(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
