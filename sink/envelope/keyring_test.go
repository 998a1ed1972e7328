package envelope

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a KMS whose master keys follow from the whole master key id, zone included.
type memory struct {
	mu    sync.Mutex
	calls []string                                                  // "wrap ID" or "unwrap ID"
	fail  func(ctx context.Context, op, id string, calls int) error // nil: nothing fails
}

func (m *memory) call(ctx context.Context, op, id string) error {
	m.mu.Lock()
	m.calls = append(m.calls, op+" "+id)
	n, fail := len(m.calls), m.fail
	m.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(ctx, op, id, n)
}

func (m *memory) count(op string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, call := range m.calls {
		if strings.HasPrefix(call, op+" ") {
			n++
		}
	}
	return n
}

var master = bytes.Repeat([]byte("planted!"), 4)

func (m *memory) WrapKey(ctx context.Context, key []byte, id string) (string, error) {
	if err := m.call(ctx, "wrap", id); err != nil {
		return "", err
	}
	return encryptKeyLocally(key, master, []byte(id))
}

func (m *memory) UnwrapKey(ctx context.Context, wrapped string, id string) ([]byte, error) {
	if err := m.call(ctx, "unwrap", id); err != nil {
		return nil, err
	}
	return decryptKeyLocally(wrapped, master, []byte(id))
}

// clock is a time that stands still until it is moved, or someone sleeps.
type clock struct {
	mu   sync.Mutex
	time time.Time
	naps []time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(d)
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.move(d)
	c.mu.Lock()
	c.naps = append(c.naps, d)
	c.mu.Unlock()
	return context.Cause(ctx)
}

func memoryRing(t *testing.T, limits Limits, previous ...MasterKey) (*Keyring, *memory, *clock) {
	t.Helper()
	kms, c := &memory{}, &clock{time: time.Unix(1e9, 0)}
	k, err := NewKeyring(map[Zone]MasterKey{Default: {kms, "hashivault://one"}}, limits, previous...)
	if err != nil {
		t.Fatal(err)
	}
	k.cache.now, k.caller.now, k.caller.sleep = c.now, c.now, c.sleep
	return k, kms, c
}

func makeKey(t *testing.T, k *Keyring, zone Zone) DataKey {
	t.Helper()
	key, err := k.NewDataKey(ctx, zone, true)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestZoneIsBound(t *testing.T) {
	k, _, _ := memoryRing(t, Limits{})
	made := makeKey(t, k, Quarantined)
	info, err := Inspect(made.Material)
	want := MaterialInfo{MasterKeyID: "hashivault://one#quarantined", Zone: Quarantined, Footer: true, DoubleWrapped: true}
	if err != nil || info != want || made.MasterKeyID != want.MasterKeyID {
		t.Errorf("got %+v, %v", info, err)
	}
	if got, err := k.DataKey(ctx, made.Material); err != nil || !bytes.Equal(got, made.Key) {
		t.Fatal(err)
	}
	forged := bytes.Replace(made.Material, []byte("#quarantined"), []byte("#accepted"), 1)
	if _, err := k.DataKey(ctx, forged); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the zone was changed: %v, want ErrWrongKey", err)
	}
	forged = bytes.Replace(made.Material, []byte("#quarantined"), nil, 1)
	if _, err := k.DataKey(ctx, forged); !errors.Is(err, ErrWrongKey) {
		t.Errorf("the zone was taken away: %v, want ErrWrongKey", err)
	}
	forged = bytes.Replace(made.Material, []byte("//one"), []byte("//two"), 1)
	if _, err := k.DataKey(ctx, forged); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "hashivault://one") {
		t.Errorf("a key that is not at hand: %v, want ErrNoKey and what there is", err)
	}
}

func TestFormerAndForeignKeys(t *testing.T) {
	old := &memory{}
	before, err := NewKeyring(map[Zone]MasterKey{Default: {old, "awskms://1234?region=eu-west-1"}}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	made := makeKey(t, before, Accepted)
	k, _, _ := memoryRing(t, Limits{}, MasterKey{old, "awskms://1234?region=eu-west-1"})
	if got, err := k.DataKey(ctx, made.Material); err != nil || !bytes.Equal(got, made.Key) {
		t.Errorf("under a former key: %v", err)
	}
	if slices.Contains(old.calls, "wrap "+made.MasterKeyID) && old.count("wrap") != 1 {
		t.Errorf("a former key wraps: %v", old.calls)
	}
	// Written by another program, under the service's own name of the key and without a zone.
	wrapped, err := old.WrapKey(ctx, bytes.Repeat([]byte{7}, 16), "awskms://1234?region=eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	text := `{"keyMaterialType":"PKMT1","internalStorage":true,"isFooterKey":true,"kmsInstanceID":"x","kmsInstanceURL":"y","masterKeyID":"1234","wrappedDEK":"` + wrapped + `","doubleWrapping":false}`
	if got, err := k.DataKey(ctx, []byte(text)); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{7}, 16)) {
		t.Errorf("under the service's own name of the key: %v", err)
	}
}

func TestReadingLimits(t *testing.T) {
	k, kms, c := memoryRing(t, Limits{Age: time.Minute, Opened: 2})
	zones := []Zone{Accepted, Quarantined, Rejected}
	var made []DataKey
	for _, zone := range zones {
		made = append(made, makeKey(t, k, zone))
	}
	read := func(i, want int, why string) {
		t.Helper()
		if got, err := k.DataKey(ctx, made[i].Material); err != nil || !bytes.Equal(got, made[i].Key) {
			t.Fatal(err)
		}
		if got := kms.count("unwrap"); got != want {
			t.Errorf("%s: %d calls, want %d", why, got, want)
		}
		c.move(time.Second)
	}
	read(0, 1, "new")
	read(0, 1, "again")
	read(1, 2, "another")
	read(2, 3, "a third, which drives out the oldest")
	read(1, 3, "the second is kept")
	read(0, 4, "the first was driven out")
	c.move(time.Minute)
	read(0, 5, "older than a minute")
	if len(k.cache.reading) > 2 {
		t.Errorf("%d are kept, want 2 at most", len(k.cache.reading))
	}
	c.move(-time.Hour)
	read(0, 6, "the clock was set back")
}

func TestServesWhileAway(t *testing.T) {
	k, kms, c := memoryRing(t, Limits{Age: time.Minute, Uses: 3, Patience: time.Second})
	first := makeKey(t, k, Accepted)
	if _, err := k.DataKey(ctx, first.Material); err != nil {
		t.Fatal(err)
	}
	kms.fail = func(context.Context, string, string, int) error { return &Unavailable{Err: errors.New("away")} }
	makeKey(t, k, Accepted)
	makeKey(t, k, Accepted)
	if _, err := k.NewDataKey(ctx, Accepted, true); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a fourth use: %v", err)
	}
	if _, err := k.DataKey(ctx, first.Material); err != nil {
		t.Errorf("reading with what is cached: %v", err)
	}
	c.move(time.Minute)
	if _, err := k.DataKey(ctx, first.Material); !errors.Is(err, ErrUnavailable) {
		t.Errorf("reading after its time: %v", err)
	}
}

func TestWaits(t *testing.T) {
	type told struct {
		id      string
		attempt int
		wait    time.Duration
	}
	var heard []told
	calls := 0
	k, kms, c := memoryRing(t, Limits{
		Waiting: func(id string, attempt int, wait time.Duration, err error) {
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "throttled") {
				t.Errorf("told of %v", err)
			}
			heard = append(heard, told{id, attempt, wait})
		},
		Called: func(op, id string, took time.Duration, err error) {
			if op != "wrap" || id != "hashivault://one#accepted" {
				t.Errorf("called %s %s", op, id)
			}
			calls++
		},
	})
	kms.fail = func(_ context.Context, _, _ string, n int) error {
		if n <= 14 {
			return &Unavailable{Err: errors.New("throttled"), After: map[int]time.Duration{3: 7 * time.Second}[n]}
		}
		return nil
	}
	makeKey(t, k, Accepted)
	if len(heard) != 14 || len(c.naps) != 14 || calls != 15 {
		t.Fatalf("told %d times, slept %d times, called %d times, want 14, 14, 15", len(heard), len(c.naps), calls)
	}
	for i, h := range heard {
		longest := min(firstWait<<i, maxWait)
		if i == 2 {
			longest = 7 * time.Second
			if h.wait != longest {
				t.Errorf("the service asked for 7 s and got %v", h.wait)
			}
		}
		if h.attempt != i+1 || h.id != "hashivault://one#accepted" || h.wait != c.naps[i] || h.wait > longest || h.wait < min(firstWait<<i, maxWait)/2 {
			t.Errorf("wait %d: %+v, want up to %v", i, h, longest)
		}
	}
}

func TestFinalErrors(t *testing.T) {
	for _, final := range []error{ErrNoKey, ErrWrongKey, ErrDenied, ErrDisabled, ErrConfig, errors.New("a KMS of unknown make")} {
		k, kms, c := memoryRing(t, Limits{})
		kms.fail = func(context.Context, string, string, int) error { return fmt.Errorf("x: %w", final) }
		_, err := k.NewDataKey(ctx, Accepted, true)
		if !errors.Is(err, final) || len(kms.calls) != 1 || len(c.naps) != 0 || !strings.Contains(err.Error(), "accepted") {
			t.Errorf("%v: got %v after %d calls", final, err, len(kms.calls))
		}
		if err := k.Probe(ctx, Accepted); !errors.Is(err, final) {
			t.Errorf("probe: %v", err)
		}
		kms.fail = nil
		if err := k.Probe(ctx, Accepted); err != nil {
			t.Errorf("after it was mended: %v", err)
		}
	}
}

func TestPatienceAndContext(t *testing.T) {
	away := func(context.Context, string, string, int) error { return &Unavailable{Err: errors.New("away")} }
	k, kms, _ := memoryRing(t, Limits{Patience: 2 * time.Second})
	kms.fail = away
	_, err := k.NewDataKey(ctx, Accepted, true)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "away") || len(kms.calls) < 3 {
		t.Errorf("after %d calls: %v", len(kms.calls), err)
	}
	k, kms, _ = memoryRing(t, Limits{})
	stopping, stop := context.WithCancel(ctx)
	kms.fail = func(ctx context.Context, op, id string, n int) error {
		if n == 5 {
			stop()
		}
		return away(ctx, op, id, n)
	}
	_, err = k.NewDataKey(stopping, Accepted, true)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) || len(kms.calls) != 5 {
		t.Errorf("stopped after %d calls: %v", len(kms.calls), err)
	}
	// One that hangs is given up and asked again.
	k, kms, _ = memoryRing(t, Limits{Timeout: time.Millisecond})
	kms.fail = func(ctx context.Context, _, _ string, n int) error {
		if n > 2 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	makeKey(t, k, Accepted)
	if len(kms.calls) != 3 {
		t.Errorf("%d calls, want 3", len(kms.calls))
	}
}

// Whoever waits for a KEK that another fetches gets it too; a zone that waits holds up no other; who gives up while
// fetching leaves the fetching to the next.
func TestOneCallForAll(t *testing.T) {
	k, kms, _ := memoryRing(t, Limits{})
	gate, entered := make(chan struct{}), make(chan struct{}, 100)
	kms.fail = func(ctx context.Context, op, id string, _ int) error {
		if id == "hashivault://one#quarantined" {
			return nil
		}
		entered <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	first, giveUp := context.WithCancel(ctx)
	left := make(chan error, 1)
	go func() {
		_, err := k.NewDataKey(first, Accepted, true)
		left <- err
	}()
	<-entered
	keys := make(chan DataKey, 50)
	var all sync.WaitGroup
	for range cap(keys) {
		all.Go(func() {
			key, err := k.NewDataKey(ctx, Accepted, true)
			if err != nil {
				t.Error(err)
			}
			keys <- key
		})
	}
	makeKey(t, k, Quarantined) // while accepted waits
	impatient, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if _, err := k.NewDataKey(impatient, Accepted, true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that waits for another's fetch: %v", err)
	}
	giveUp()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that gave up: %v", err)
	}
	<-entered
	close(gate)
	all.Wait()
	if got := kms.count("wrap"); got != 3 {
		t.Errorf("%d wraps, want one given up, one for all, one of the other zone", got)
	}
	for range cap(keys) {
		key := <-keys
		all.Go(func() {
			if got, err := k.DataKey(ctx, key.Material); err != nil || !bytes.Equal(got, key.Key) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := kms.count("unwrap"); got != 1 {
		t.Errorf("%d unwraps for one KEK", got)
	}
}

func TestSidecar(t *testing.T) {
	k, _, _ := memoryRing(t, Limits{})
	s := &Sidecar{}
	var made []DataKey
	for i := range 12 {
		zone := Restricted
		if i == 0 {
			zone = Accepted
		}
		key, err := k.NewExternalDataKey(ctx, zone, i == 0, s)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, key)
	}
	if got := string(made[0].Material); got != `{"keyMaterialType":"PKMT1","internalStorage":false,"keyReference":"footerKey"}` {
		t.Errorf("the footer's metadata is %s", got)
	}
	if got := string(made[11].Material); got != `{"keyMaterialType":"PKMT1","internalStorage":false,"keyReference":"columnKey10"}` {
		t.Errorf("the last column's metadata is %s", got)
	}
	if _, err := k.NewExternalDataKey(ctx, Accepted, true, s); err == nil {
		t.Error("two footers in one file")
	}
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var flat map[string]string
	if err := json.Unmarshal(text, &flat); err != nil || len(flat) != 12 {
		t.Fatalf("%d members, %v", len(flat), err)
	}
	var footer map[string]any
	if err := json.Unmarshal([]byte(flat["footerKey"]), &footer); err != nil {
		t.Fatal(err)
	}
	if _, has := footer["internalStorage"]; has || footer["isFooterKey"] != true || footer["kmsInstanceID"] != "DEFAULT" || footer["masterKeyID"] != "hashivault://one#accepted" {
		t.Errorf("the footer's material is %s", flat["footerKey"])
	}
	parsed, err := ParseSidecar(text)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := parsed.Encode(); err != nil || !bytes.Equal(again, text) {
		t.Errorf("encoded again it differs: %v", err)
	}
	if got := parsed.MasterKeyIDs(); !slices.Equal(got, []string{"hashivault://one#accepted", "hashivault://one#restricted"}) {
		t.Errorf("master keys %v", got)
	}
	lookup := func(context.Context) (*Sidecar, error) { return parsed, nil }
	for _, key := range made {
		if got, err := k.DataKeyFrom(ctx, key.Material, lookup); err != nil || !bytes.Equal(got, key.Key) {
			t.Errorf("%s: %v", key.Material, err)
		}
		if _, err := k.DataKey(ctx, key.Material); !errors.Is(err, ErrExternal) {
			t.Errorf("without the sidecar: %v", err)
		}
	}
	strange := errors.New("storage")
	for _, lookup := range []func(context.Context) (*Sidecar, error){
		func(context.Context) (*Sidecar, error) { return &Sidecar{}, nil },
		func(context.Context) (*Sidecar, error) { return nil, strange },
	} {
		if _, err := k.DataKeyFrom(ctx, made[0].Material, lookup); !errors.Is(err, ErrExternal) && !errors.Is(err, strange) {
			t.Errorf("got %v", err)
		}
	}
	inside := makeKey(t, k, Accepted)
	if got, err := k.DataKeyFrom(ctx, inside.Material, func(context.Context) (*Sidecar, error) { panic("asked") }); err != nil || !bytes.Equal(got, inside.Key) {
		t.Errorf("internal material: %v", err)
	}
	for object, want := range map[string]string{"a/b/c.parquet": "a/b/_KEY_MATERIAL_FOR_c.parquet.json", "c": "_KEY_MATERIAL_FOR_c.json"} {
		if got := SidecarName(object); got != want {
			t.Errorf("%s: got %s, want %s", object, got, want)
		}
	}
}

func TestBrokenSidecar(t *testing.T) {
	k, _, _ := memoryRing(t, Limits{})
	s := &Sidecar{}
	if _, err := k.NewExternalDataKey(ctx, Accepted, true, s); err != nil {
		t.Fatal(err)
	}
	good, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	member := bytes.TrimSuffix(bytes.TrimPrefix(good, []byte("{")), []byte("}"))
	for what, bad := range map[string]string{
		"nothing": "", "empty": "{}", "null": "null", "a list": "[]", "not strings": `{"footerKey":{}}`, "no material": `{"footerKey":"{}"}`,
		"twice": "{" + string(member) + "," + string(member) + "}", "more behind": string(good) + "{}", "no name": `{"":` + string(bytes.TrimPrefix(member, []byte(`"footerKey":`))) + "}",
		"a reference": `{"footerKey":"{\"keyMaterialType\":\"PKMT1\",\"internalStorage\":false,\"keyReference\":\"footerKey\"}"}`,
		"a key file":  `{"version":1,"keys":{"a":"cGxhbnRlZA=="}}`, "large": "{" + strings.Repeat(" ", SidecarLimit) + string(member) + "}",
	} {
		got, err := ParseSidecar([]byte(bad))
		if !errors.Is(err, errSidecar) {
			t.Errorf("%s: %v, %v", what, got, err)
		} else if strings.Contains(err.Error(), "cGxhbnRlZA") {
			t.Errorf("%s: the error quotes it", what)
		}
	}
	for cut := range good {
		if _, err := ParseSidecar(good[:cut]); err == nil {
			t.Fatalf("parsed when cut to %d bytes", cut)
		}
	}
	if _, err := (&Sidecar{}).Encode(); err == nil {
		t.Error("an empty sidecar was encoded")
	}
}

// Two thousand files that were written within a day are wrapped anew by few calls of the key service, and every data key stays what it was.
func TestRewrap(t *testing.T) {
	k, kms, c := memoryRing(t, Limits{Age: time.Hour})
	type file struct {
		sidecar *Sidecar
		keys    []DataKey
	}
	files := make([]file, 2_000)
	for i := range files {
		files[i].sidecar = &Sidecar{}
		for _, footer := range []bool{true, false} {
			zone := Restricted
			if footer {
				zone = Accepted
			}
			key, err := k.NewExternalDataKey(ctx, zone, footer, files[i].sidecar)
			if err != nil {
				t.Fatal(err)
			}
			files[i].keys = append(files[i].keys, key)
		}
		c.move(50 * time.Second)
	}
	wraps := kms.count("wrap")
	next := &memory{}
	rotated, err := NewKeyring(map[Zone]MasterKey{Default: {next, "hashivault://two"}}, Limits{}, MasterKey{kms, "hashivault://one"})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := NewKeyring(map[Zone]MasterKey{Default: {next, "hashivault://two"}}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		before, _ := f.sidecar.Encode()
		fresh, changed, err := rotated.Rewrap(ctx, f.sidecar, Accepted, false)
		if err != nil || !changed {
			t.Fatal(changed, err)
		}
		if after, _ := f.sidecar.Encode(); !bytes.Equal(before, after) {
			t.Fatal("the old sidecar was changed")
		}
		if i%200 == 0 {
			for j, key := range f.keys {
				for _, ring := range []*Keyring{rotated, alone} {
					got, err := ring.DataKeyFrom(ctx, key.Material, func(context.Context) (*Sidecar, error) { return fresh, nil })
					if err != nil || !bytes.Equal(got, key.Key) {
						t.Fatalf("file %d, key %d: %v", i, j, err)
					}
				}
			}
			same, changed, err := rotated.Rewrap(ctx, fresh, Accepted, false)
			if err != nil || changed || same.MasterKeyIDs()[0] != "hashivault://two#accepted" {
				t.Fatalf("a second time: %v, %v", changed, err)
			}
		}
		files[i].sidecar = fresh
	}
	if got := kms.count("unwrap"); got != wraps || wraps > 60 {
		t.Errorf("%d unwraps by the old key for %d KEKs", got, wraps)
	}
	if got := next.count("wrap"); got != 2 {
		t.Errorf("%d wraps by the new key for two zones", got)
	}
	// A rotation within the service keeps the id: force wraps again.
	again, err := NewKeyring(map[Zone]MasterKey{Default: {next, "hashivault://two"}}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	fresh, changed, err := again.Rewrap(ctx, files[0].sidecar, Accepted, true)
	if err != nil || !changed || bytes.Equal(fresh.Material(FooterKey), files[0].sidecar.Material(FooterKey)) {
		t.Fatalf("forced: %v, %v", changed, err)
	}
	if got, err := again.DataKeyFrom(ctx, files[0].keys[0].Material, func(context.Context) (*Sidecar, error) { return fresh, nil }); err != nil || !bytes.Equal(got, files[0].keys[0].Key) {
		t.Error(err)
	}
	// Without the former key nothing is done, and the error says what is missing.
	old := &Sidecar{}
	if _, err := k.NewExternalDataKey(ctx, Accepted, true, old); err != nil {
		t.Fatal(err)
	}
	if _, _, err := alone.Rewrap(ctx, old, Accepted, false); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "hashivault://one") {
		t.Errorf("without the former key: %v", err)
	}
}
