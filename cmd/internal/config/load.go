package config

import (
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/validate"
	"github.com/tasterhq/taster/sink/envelope"
)

// Codes of the faults that only a configuration can have; those of any YAML file are in package strict. They are
// stable.
const (
	NoMatch        = "no_match"        // a pattern for contracts matches no file
	DuplicateTopic = "duplicate_topic" // two contracts for one topic, or a topic for two purposes
	LocalKey       = "local_key"       // a key file in production
)

// Defaults.
const (
	DefaultGroup       = "taster"
	DefaultVerdicts    = "taster.verdicts"
	DefaultDeadLetters = "taster.dead-letters"
	DefaultListen      = "127.0.0.1:9464"
	DefaultRecords     = 100_000
	DefaultBytes       = 128 << 20
	DefaultAge         = 30 * time.Second
)

// Load reads the configuration in the file at path, and every contract that it names. It returns every fault that it
// finds, those of the file first, and a configuration only when there is none.
func Load(path string) (*Config, []validate.Fault) {
	data, fault := strict.ReadFile(path)
	if fault != nil {
		return nil, []validate.Fault{*fault}
	}
	c, doc := parse(path, data, os.LookupEnv)
	if faults := doc.Faults(); len(faults) > 0 {
		return nil, strict.Sorted(path, faults)
	}
	return c, nil
}

// reader turns a document into a Config.
type reader struct {
	folder string // of the file: relative paths start there
	config *Config
}

func parse(path string, data []byte, lookup func(string) (string, bool)) (*Config, *strict.Document) {
	doc, root := strict.Parse(path, data, lookup)
	r := &reader{folder: filepath.Dir(path), config: &Config{Path: path}}
	if len(doc.Faults()) > 0 {
		return r.config, doc
	}
	m := root.Mapping("kafka", "contracts", "landing", "keys", "retention", "accelerator", "listen", "log", "production")
	c := r.config
	c.Production = m.At("production").Bool(false)
	r.kafka(m.At("kafka"))
	r.landing(m.Require("landing"))
	r.keys(m.Require("keys"))
	r.retention(m.At("retention"))
	c.Accelerator = accelerator(m.At("accelerator"))
	c.Listen = DefaultListen
	if listen := m.At("listen"); listen.Present() {
		c.Listen = address(listen, 0)
	}
	log := m.At("log").Mapping("format", "level")
	c.Log = Log{Format: oneOf(log.At("format"), "json", "text"), Level: level(log.At("level"))}
	r.contracts(doc, m.Require("contracts"))
	return c, doc
}

// oneOf reads one of the allowed words; the first is the default.
func oneOf(v strict.Value, allowed ...string) string {
	if text := v.OneOf(allowed...); text != "" {
		return text
	}
	return allowed[0]
}

func level(v strict.Value) slog.Level {
	levels := map[string]slog.Level{
		"info": slog.LevelInfo, "debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return levels[oneOf(v, "info", "debug", "warn", "error")]
}

// text reads a text and keeps the default when there is none.
func text(v strict.Value, missing string) string {
	if t := v.Text(); t != "" {
		return t
	}
	return missing
}

// address reads HOST:PORT; least is the smallest port that may stand there.
func address(v strict.Value, least int) string {
	text := v.Text()
	if text == "" {
		return ""
	}
	host, port, err := net.SplitHostPort(text)
	n, bad := strconv.Atoi(port)
	if err != nil || bad != nil || n < least || n > math.MaxUint16 || strings.ContainsAny(host, " /@") {
		v.Fault(strict.BadValue, "%s is not HOST:PORT", v.Shown())
	}
	return text
}

// resolve makes a path usable from the working folder.
func (r *reader) resolve(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.folder, filepath.FromSlash(name))
}

// file reads the name of a file that must be there.
func (r *reader) file(v strict.Value) string {
	name := v.Text()
	if name == "" {
		return ""
	}
	name = r.resolve(name)
	if reason := strict.CheckFile(name); reason != "" {
		v.Fault(strict.FileMissing, "the file %s cannot be read: %s", v.Shown(), reason)
	}
	return name
}

func (r *reader) kafka(v strict.Value) {
	if !v.Present() {
		return
	}
	m := v.Mapping("brokers", "group", "tls", "sasl", "verdicts", "dead_letters")
	k := &r.config.Kafka
	brokers := m.Require("brokers")
	members := brokers.List(true)
	for _, member := range members {
		if broker := address(member, 1); broker != "" {
			k.Brokers = append(k.Brokers, broker)
		}
	}
	if brokers.IsList() && len(members) == 0 {
		brokers.Fault(strict.BadValue, "names no broker")
	}
	k.Group = text(m.At("group"), DefaultGroup)
	k.Verdicts = text(m.At("verdicts"), DefaultVerdicts)
	k.DeadLetters = text(m.At("dead_letters"), DefaultDeadLetters)
	if k.Verdicts == k.DeadLetters {
		m.At("dead_letters").Fault(DuplicateTopic, "verdicts and dead letters need two topics")
	}
	r.tls(m.At("tls"))
	r.sasl(m.At("sasl"))
}

func (r *reader) tls(v strict.Value) {
	if !v.Present() {
		return
	}
	m := v.Mapping("ca", "cert", "key", "server_name")
	r.config.Kafka.TLS = &TLS{
		CA: r.file(m.At("ca")), Cert: r.file(m.At("cert")), Key: r.file(m.At("key")),
		ServerName: m.At("server_name").Text(),
	}
	if m.At("cert").Present() != m.At("key").Present() {
		v.Fault(strict.MissingKey, "cert and key go together: a client certificate needs both")
	}
}

func (r *reader) sasl(v strict.Value) {
	if !v.Present() {
		return
	}
	m := v.Mapping("mechanism", "username", "password", "token", "token_file")
	s := &SASL{Mechanism: m.Require("mechanism").OneOf(Mechanisms...)}
	r.config.Kafka.SASL = s
	s.Username = m.At("username").Text()
	s.Password = NewSecret(m.At("password").Text())
	s.Token = NewSecret(m.At("token").Text())
	s.TokenFile = r.file(m.At("token_file"))
	wanted, unwanted := []string{"username", "password"}, []string{"token", "token_file"}
	switch s.Mechanism {
	case "":
		return
	case "OAUTHBEARER":
		wanted, unwanted = nil, wanted
		if m.At("token").Present() == m.At("token_file").Present() {
			v.Fault(strict.MissingKey, "OAUTHBEARER needs one of token and token_file")
		}
	}
	for _, key := range wanted {
		if !m.At(key).Present() {
			v.Fault(strict.MissingKey, "%s needs %s", s.Mechanism, key)
		}
	}
	for _, key := range unwanted {
		if m.At(key).Present() {
			m.At(key).Fault(strict.BadValue, "%s has no use for %s", s.Mechanism, key)
		}
	}
}

func (r *reader) landing(v strict.Value) {
	m := v.Mapping("url", "segment", "key_material")
	l := &r.config.Landing
	at := m.At("url")
	if v.IsMapping() {
		at = m.Require("url")
	}
	if scheme, _, _ := strings.Cut(at.Text(), "://"); slices.Contains(bucketSchemes, scheme) {
		l.URL = bucket(at)
	} else if l.Dir, _ = r.location(at, "file"); l.Dir != "" {
		l.URL = (&url.URL{Scheme: "file", Path: filepath.ToSlash(l.Dir)}).String()
	}
	l.External = oneOf(m.At("key_material"), "internal", "external") == "external"
	segment := m.At("segment").Mapping("records", "bytes", "age")
	l.Segment = Segment{
		Records: segment.At("records").Int(1, 100_000_000, DefaultRecords),
		Bytes:   segment.At("bytes").Size(1<<10, 16<<30, DefaultBytes),
		Age:     segment.At("age").Duration(10*time.Millisecond, 24*time.Hour, DefaultAge),
	}
}

// bucketSchemes are those of object stores.
var bucketSchemes = []string{"s3", "gs", "azblob"}

// bucket reads SCHEME://BUCKET/PREFIX?OPTIONS. What the options may be is for the store to say, when it is opened.
func bucket(v strict.Value) string {
	u, err := url.Parse(v.Text())
	switch {
	case err == nil && u.User != nil:
		v.Fault(strict.BadValue, "the URL of a bucket holds no credentials; give them in the environment")
	case err != nil || u.Host == "" || u.Fragment != "":
		v.Fault(strict.BadValue, "%s is no URL of a bucket; want SCHEME://BUCKET/PREFIX?OPTIONS", v.Shown())
	default:
		return v.Text()
	}
	return ""
}

// location reads SCHEME:///PATH#FRAGMENT and returns the path, made absolute, and the fragment. A relative path begins
// with ./ or ../.
func (r *reader) location(v strict.Value, scheme string) (path, fragment string) {
	text := v.Text()
	if text == "" {
		return "", ""
	}
	is, rest, found := strings.Cut(text, "://")
	switch {
	case !found:
		v.Fault(strict.BadValue, "%s is no URL; want %s:///PATH", v.Shown(), scheme)
		return "", ""
	case is != scheme:
		v.Fault(strict.BadValue, "%s has an unknown scheme; want %s:///PATH", v.Shown(), scheme)
		return "", ""
	}
	rest, fragment, _ = strings.Cut(rest, "#")
	path, err := url.PathUnescape(rest)
	fragment, bad := url.PathUnescape(fragment)
	switch {
	case err != nil || bad != nil || strings.Contains(rest, "?"):
		v.Fault(strict.BadValue, "%s is no URL of a file", v.Shown())
		return "", ""
	case strings.HasPrefix(path, "/"), strings.HasPrefix(path, "./"), strings.HasPrefix(path, "../"):
		absolute, err := filepath.Abs(r.resolve(path))
		if err != nil {
			v.Fault(strict.BadValue, "%s cannot be made absolute: %s", v.Shown(), strict.Reason(err))
		}
		return absolute, fragment
	}
	v.Fault(strict.BadValue, "%s names a host; want %s:///PATH for an absolute path or %s://./PATH for one relative to this file",
		v.Shown(), scheme, scheme)
	return "", ""
}

func (r *reader) keys(v strict.Value) {
	m := v.Mapping(append(slices.Clone(Purposes), "previous")...)
	r.config.Keys = Keys{}
	absent := ""
	for _, purpose := range Purposes {
		at := m.At(purpose)
		if at.Present() {
			if url := r.key(at); url != "" {
				r.config.Keys[purpose] = url
			}
		} else if purpose != "default" && absent == "" {
			absent = purpose
		}
	}
	for _, at := range m.At("previous").List(true) {
		if url := r.key(at); url != "" {
			r.config.Previous = append(r.config.Previous, url)
		}
	}
	if v.IsMapping() && absent != "" && !m.At("default").Present() {
		v.Fault(strict.MissingKey, "%q has no key and there is no \"default\"", absent)
	}
}

// key reads the URL of a master key.
func (r *reader) key(v strict.Value) string {
	text := v.Text()
	if scheme, _, ok := strings.Cut(text, "://"); ok && scheme != "keyfile" {
		if _, err := envelope.ParseKeyURL(text); err != nil {
			v.Fault(strict.BadValue, "%s: %s", v.Shown(), err)
			return ""
		}
		return text
	}
	file, name := r.location(v, "keyfile")
	if file == "" {
		return ""
	}
	if name == "" {
		v.Fault(strict.BadValue, "%s does not say which key of the file; end it with #NAME", v.Shown())
		return ""
	}
	if r.config.Production {
		v.Fault(LocalKey, "production: true refuses a key that lies in a local file; name one in a key service, such as awskms://KEYID")
	}
	return (&url.URL{Scheme: "keyfile", Path: filepath.ToSlash(file), Fragment: name}).String()
}

// contracts reads every contract that the patterns name. A file that two patterns match is read once.
func (r *reader) contracts(doc *strict.Document, v strict.Value) {
	members := v.List(true)
	if v.IsList() && len(members) == 0 {
		v.Fault(strict.BadValue, "names no contract; a topic without one is refused")
	}
	var paths []string
	topics := map[string]string{}
	for _, member := range members {
		pattern := member.Text()
		if pattern == "" {
			continue
		}
		matches, err := filepath.Glob(r.resolve(pattern))
		if err != nil {
			member.Fault(strict.BadValue, "%s is no pattern for file names", member.Shown())
			continue
		}
		if len(matches) == 0 {
			member.Fault(NoMatch, "%s matches no file", member.Shown())
		}
		for _, path := range matches {
			if slices.Contains(paths, path) {
				continue
			}
			paths = append(paths, path)
			one, faults := contract.Load(path)
			doc.Add(faults...)
			if one == nil {
				continue
			}
			r.topic(member, one, topics)
		}
	}
	slices.SortFunc(r.config.Contracts, func(a, b *contract.Contract) int { return strings.Compare(a.Topic, b.Topic) })
}

// topic takes a contract, unless its topic has one already or is one that taster itself writes to: it would then
// eat its own words.
func (r *reader) topic(at strict.Value, c *contract.Contract, topics map[string]string) {
	kafka := &r.config.Kafka
	switch first, twice := topics[c.Topic]; {
	case twice:
		at.Fault(DuplicateTopic, "two contracts for topic %q: %s and %s", c.Topic, first, c.Path)
		return
	case c.Topic == kafka.Verdicts || c.Topic == kafka.DeadLetters:
		at.Fault(DuplicateTopic, "%s is a contract for %q, a topic that taster itself writes to", c.Path, c.Topic)
		return
	}
	topics[c.Topic] = c.Path
	r.config.Contracts = append(r.config.Contracts, c)
}
