// Package kmstest serves, over HTTP, the few calls of Azure Key Vault, Google Cloud KMS and HashiCorp Vault by which
// keys are wrapped and unwrapped, for tests where the real services cannot run. The servers follow the documented
// requests, answers, status codes and error bodies, check who asks, and really encrypt, context included.
//
// They can be slow, throttle, fail, lie dead, refuse, and have keys disabled, destroyed and rotated. What they were
// written from is the vendors' documentation; that the vendors' servers do the same is not shown by a test here.
package kmstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Token is what a request must show to be let in.
const Token = "kmstest-token"

// Service is a key service. It is an http.Handler, to be served by net/http/httptest, and safe for concurrent use.
type Service struct {
	protocol protocol

	mu     sync.Mutex
	keys   map[string]*key
	calls  []Call
	faults []fault
	delay  time.Duration
	away   bool
	denied map[string]bool // by key name, or by context
}

// Call is a call that was let in and not broken.
type Call struct {
	Op      string // encrypt or decrypt
	Key     string
	Context string // the context that came with it, "" where the protocol has none
	Status  int    // 200 if it succeeded
}

type key struct {
	versions []any // [][]byte of AES-256, or *rsa.PrivateKey; the last one encrypts
	disabled bool
}

type fault struct {
	status     int
	retryAfter string
}

// protocol is what tells one service from another.
type protocol interface {
	// newVersion makes the secret part of a key.
	newVersion() any
	// authentic tells whether a request shows the token, and if not, refuses it.
	authentic(w http.ResponseWriter, r *http.Request) bool
	// parse reads a request.
	parse(r *http.Request) (request, bool)
	// encrypt and decrypt return the body of the answer; not ok means what was sent is refused.
	encrypt(k *key, req request) (answer any, ok bool)
	decrypt(k *key, req request) (answer any, ok bool)
	// refuse writes an error, reason being one of the constants below.
	refuse(w http.ResponseWriter, req request, status int, reason string)
}

type request struct {
	op      string // encrypt or decrypt
	key     string
	version string
	context string
	host    string
	body    map[string]string
}

// Why a request is refused, to be told in each service's own words.
const (
	noKey      = "no key"
	disabled   = "disabled"
	denied     = "denied"
	unreadable = "unreadable"
	broken     = "broken"
)

func newService(p protocol, names []string) *Service {
	s := &Service{protocol: p, keys: map[string]*key{}, denied: map[string]bool{}}
	for _, name := range names {
		s.keys[name] = &key{versions: []any{p.newVersion()}}
	}
	return s
}

// Delay makes every answer wait.
func (s *Service) Delay(d time.Duration) { s.change(func() { s.delay = d }) }

// Fail breaks the next n requests with a status, and a Retry-After header if that is not empty.
func (s *Service) Fail(n, status int, retryAfter string) {
	s.change(func() {
		for range n {
			s.faults = append(s.faults, fault{status, retryAfter})
		}
	})
}

// Away makes the service cut every connection, until it is told to come back.
func (s *Service) Away(yes bool) { s.change(func() { s.away = yes }) }

// Deny refuses the use of a key, or of a context such as taster_zone=quarantined, to everyone.
func (s *Service) Deny(keyOrContext string) { s.change(func() { s.denied[keyOrContext] = true }) }

// Disable takes a key out of service, or puts it back.
func (s *Service) Disable(name string, yes bool) { s.change(func() { s.keys[name].disabled = yes }) }

// Destroy removes a key for good.
func (s *Service) Destroy(name string) { s.change(func() { delete(s.keys, name) }) }

// Rotate gives a key a new version. What older ones wrapped still opens.
func (s *Service) Rotate(name string) {
	s.change(func() { s.keys[name].versions = append(s.keys[name].versions, s.protocol.newVersion()) })
}

// Calls returns what was asked so far, in order.
func (s *Service) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *Service) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	away, delay := s.away, s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return
	}
	if away {
		panic(http.ErrAbortHandler)
	}
	if !s.protocol.authentic(w, r) {
		return
	}
	req, ok := s.protocol.parse(r)
	if !ok {
		s.protocol.refuse(w, req, http.StatusBadRequest, broken)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) > 0 {
		next := s.faults[0]
		s.faults = s.faults[1:]
		if next.retryAfter != "" {
			w.Header().Set("Retry-After", next.retryAfter)
		}
		s.protocol.refuse(w, req, next.status, broken)
		return
	}
	status := s.answer(w, req)
	s.calls = append(s.calls, Call{req.op, req.key, req.context, status})
}

func (s *Service) answer(w http.ResponseWriter, req request) int {
	refuse := func(status int, reason string) int {
		s.protocol.refuse(w, req, status, reason)
		return status
	}
	k := s.keys[req.key]
	switch {
	case s.denied[req.key], req.context != "" && s.denied[req.context]:
		return refuse(http.StatusForbidden, denied)
	case k == nil:
		return refuse(http.StatusNotFound, noKey)
	case k.disabled:
		return refuse(http.StatusForbidden, disabled)
	}
	do := s.protocol.encrypt
	if req.op == "decrypt" {
		do = s.protocol.decrypt
	}
	out, ok := do(k, req)
	if !ok {
		return refuse(http.StatusBadRequest, unreadable)
	}
	return reply(w, http.StatusOK, out)
}

func reply(w http.ResponseWriter, status int, body any) int {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
	return status
}

// bodyOf reads a JSON object and keeps its strings.
func bodyOf(r *http.Request) (map[string]string, bool) {
	var all map[string]any
	if json.NewDecoder(http.MaxBytesReader(nil, r.Body, 64<<10)).Decode(&all) != nil {
		return nil, false
	}
	texts := map[string]string{}
	for name, value := range all {
		if text, ok := value.(string); ok {
			texts[name] = text
		}
	}
	return texts, true
}

func newAES() any {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return key
}

func gcm(secret any) cipher.AEAD {
	block, err := aes.NewCipher(secret.([]byte))
	if err != nil {
		panic(err) // made by newAES
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}
