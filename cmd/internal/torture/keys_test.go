//go:build linux

package torture

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/tasterhq/taster/sink/envelope/kmstest"
)

// keyService is a Vault in small that remembers the key bytes that went through it, in order that they can be looked
// for afterwards.
type keyService struct {
	*kmstest.Service
	url string

	mu     sync.Mutex
	seen   [][]byte
	status int // of every answer; 0: what the service says
}

func newKeyService(t testing.TB) *keyService {
	t.Helper()
	k := &keyService{Service: kmstest.NewVault("torture")}
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	k.url = server.URL
	return k
}

// env is what an instance needs to reach the service.
func (k *keyService) env() []string {
	return []string{"VAULT_ADDR=" + k.url, "VAULT_TOKEN=" + kmstest.Token}
}

// answer has every request answered with a status and nothing else; 0 ends that.
func (k *keyService) answer(status int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status = status
}

func (k *keyService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	status := k.status
	k.mu.Unlock()
	if status != 0 {
		http.Error(w, `{"errors":["as told"]}`, status)
		return
	}
	asked, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(asked))
	answer := &teed{ResponseWriter: w}
	k.Service.ServeHTTP(answer, r)
	k.remember(asked)
	var said struct{ Data json.RawMessage }
	if json.Unmarshal(answer.body.Bytes(), &said) == nil {
		k.remember(said.Data)
	}
}

func (k *keyService) remember(text []byte) {
	var message struct{ Plaintext string }
	if json.Unmarshal(text, &message) != nil {
		return
	}
	if key, err := base64.StdEncoding.DecodeString(message.Plaintext); err == nil && len(key) >= 16 {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.seen = append(k.seen, key)
	}
}

// keys returns some of the keys that went through since the last time, spread evenly: each takes a search of everything.
func (k *keyService) keys() [][]byte {
	const enough = 24
	k.mu.Lock()
	defer k.mu.Unlock()
	var some [][]byte
	for i := 0; i < len(k.seen); i += max(1, len(k.seen)/enough) {
		some = append(some, k.seen[i])
	}
	k.seen = nil
	return some
}

type teed struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (w *teed) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

// keysAway has the key service fall silent, throttle, or be slow.
func keysAway(c *cycle) {
	how := []string{"silent", "throttling", "slow", "refusing"}[c.rand.IntN(4)]
	c.note("%s", how)
	c.whileWorking(func() func() {
		end := func() {}
		switch how {
		case "silent":
			c.site.keys.Away(true)
			end = func() { c.site.keys.Away(false) }
		case "throttling":
			c.site.keys.answer(http.StatusTooManyRequests)
			end = func() { c.site.keys.answer(0) }
		case "slow":
			c.site.keys.Delay(c.upTo(c.slow * soon))
			end = func() { c.site.keys.Delay(0) }
		case "refusing":
			c.site.keys.answer(http.StatusInternalServerError)
			end = func() { c.site.keys.answer(0) }
		}
		// One that has its keys already would not notice.
		if c.rand.IntN(2) == 0 {
			c.note("a member comes meanwhile")
			c.start()
		} else {
			for _, p := range c.running() {
				p.kill()
			}
			c.broker.evict(c.group)
			c.start()
		}
		return end
	})
}
