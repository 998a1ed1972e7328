package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/contract/strict"
)

// folder makes a folder with two contracts, a few PEM files that need only be there, and a configuration; it returns
// the configuration's path.
func folder(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "contracts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"taster.yaml":                text,
		"ca.pem":                     "",
		"client.pem":                 "",
		"client.key":                 "",
		"token":                      "",
		"contracts/s.json":           `{"type":"object","properties":{"id":{"type":"string"}}}`,
		"contracts/reviews.yaml":     "topic: reviews\nowner: a\nclassification: public\nschema: s.json\n",
		"contracts/clicks.yaml":      "topic: clicks\nowner: a\nclassification: public\nschema: s.json\n",
		"contracts/reviews.yml":      "topic: reviews\nowner: b\nclassification: public\nschema: s.json\n",
		"contracts/verdicts.yml":     "topic: taster.verdicts\nowner: b\nclassification: public\nschema: s.json\n",
		"contracts/broken.contract":  "topic: broken\nownr: b\nclassification: public\nschema: s.json\n",
		"contracts/another.contract": "topic: another\nowner: b\nclassification: publik\nschema: s.json\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "taster.yaml")
}

const full = `
kafka:
  brokers: [localhost:9092, "[::1]:9093"]
  group: g
  tls: {ca: ca.pem, cert: client.pem, key: ./client.key, server_name: kafka.example}
  sasl: {mechanism: SCRAM-SHA-512, username: taster, password: "${TASTER_TEST_PASSWORD}"}
  verdicts: v
  dead_letters: d
contracts: [contracts/*.yaml, contracts/clicks.yaml]
landing:
  url: file:///var/lib/tas%20ter
  segment: {records: 10, bytes: 1MiB, age: 5s}
  key_material: external
keys:
  default: keyfile:///etc/keys.json#default
  quarantined: keyfile://./keys.json#other
  restricted: awskms://alias/medic?region=eu-west-1&endpoint=https://kms.example
  previous: [keyfile://./keys.json#old, hashivault://taster]
accelerator: {use: "cuda:1", memory: 2GiB}
listen: 0.0.0.0:0
log: {format: text, level: debug}
`

func TestLoad(t *testing.T) {
	t.Setenv("TASTER_TEST_PASSWORD", "hunter2")
	path := folder(t, full)
	dir := filepath.Dir(path)
	c, faults := Load(path)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if len(c.Contracts) != 2 || c.Contracts[0].Topic != "clicks" || c.Contracts[1].Topic != "reviews" {
		t.Errorf("contracts are %v", c.Contracts)
	}
	if got := c.Kafka.SASL.Password.Reveal(); got != "hunter2" {
		t.Errorf("the password is %q", got)
	}
	got := *c
	got.Contracts = nil
	sasl := *c.Kafka.SASL
	sasl.Password = Secret{}
	got.Kafka.SASL = &sasl
	want := Config{
		Path: path,
		Kafka: Kafka{
			Brokers: []string{"localhost:9092", "[::1]:9093"}, Group: "g", Verdicts: "v", DeadLetters: "d",
			TLS: &TLS{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"),
				Key: filepath.Join(dir, "client.key"), ServerName: "kafka.example"},
			SASL: &SASL{Mechanism: "SCRAM-SHA-512", Username: "taster"},
		},
		Landing: Landing{URL: "file:///var/lib/tas%20ter", Dir: "/var/lib/tas ter", Segment: Segment{10, 1 << 20, 5 * time.Second}, External: true},
		Keys: Keys{"default": "keyfile:///etc/keys.json#default", "quarantined": "keyfile://" + dir + "/keys.json#other",
			"restricted": "awskms://alias/medic?region=eu-west-1&endpoint=https://kms.example"},
		Previous: []string{"keyfile://" + dir + "/keys.json#old", "hashivault://taster"},
		Listen:   "0.0.0.0:0",

		Accelerator: Accelerator{Use: "cuda:1", Memory: 2 << 30},

		Log: Log{Format: "text", Level: slog.LevelDebug},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if n := c.Accelerator.Use.Device(); n != 1 {
		t.Errorf("cuda:1 is device %d", n)
	}
	if one, err := c.Contract("clicks"); err != nil || one.Topic != "clicks" {
		t.Errorf("the contract for clicks: %v, %v", one, err)
	}
	_, err := c.Contract("reveiws")
	if err == nil || !strings.Contains(err.Error(), `no contract for topic "reveiws"`) || !strings.HasSuffix(err.Error(), `is "reviews"`) {
		t.Errorf("a topic without a contract: %v", err)
	}
}

const small = "contracts: [contracts/*.yaml]\nlanding: {url: file:///l}\nkeys: {default: keyfile:///k#d}\n"

func TestDefaults(t *testing.T) {
	path := folder(t, small+"kafka: {brokers: [b:1]}\n")
	c, faults := Load(path)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	c.Contracts = nil
	want := &Config{
		Path:    path,
		Kafka:   Kafka{Brokers: []string{"b:1"}, Group: "taster", Verdicts: "taster.verdicts", DeadLetters: "taster.dead-letters"},
		Landing: Landing{URL: "file:///l", Dir: "/l", Segment: Segment{100000, 128 << 20, 30 * time.Second}},
		Keys:    Keys{"default": "keyfile:///k#d"},

		Accelerator: Accelerator{Use: Auto},

		Listen: "127.0.0.1:9464",
		Log:    Log{Format: "json", Level: slog.LevelInfo},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c, want)
	}
}

func TestFaults(t *testing.T) {
	t.Setenv("TASTER_TEST_BROKER", "user:hunter2@host")
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", `1:landing:missing_key:the required key "landing" is missing
1:keys:missing_key:the required key "keys" is missing
1:contracts:missing_key:the required key "contracts" is missing`},
		{"unknown keys", small + "kafak: {}\nkafka: {broker: [b:1], tls: {cafile: x}, sasl: {user: x}}\nlog: {lvl: info}\n",
			`4:kafak:unknown_key:unknown key "kafak"; the nearest known key is "kafka"
5:kafka.broker:unknown_key:unknown key "broker"; the nearest known key is "brokers"
5:kafka.brokers:missing_key:the required key "brokers" is missing
5:kafka.tls.cafile:unknown_key:unknown key "cafile"; the nearest known key is "ca"
5:kafka.sasl.user:unknown_key:unknown key "user"; the nearest known key is "username"
5:kafka.sasl.mechanism:missing_key:the required key "mechanism" is missing
6:log.lvl:unknown_key:unknown key "lvl"; the nearest known key is "level"`},
		{"environment", small + "kafka: {brokers: [\"${TASTER_TEST_NOT_SET}\", \"${TASTER_TEST_BROKER}\"]}\n",
			`4:kafka.brokers[0]:env_unset:the environment variable TASTER_TEST_NOT_SET is not set
4:kafka.brokers[1]:bad_value:"${TASTER_TEST_BROKER}" is not HOST:PORT`},
		{"values", small + "listen: 9464\nlog: {format: xml, level: loud}\nproduction: yes\n",
			`4:listen:wrong_type:want a text, is a number; put it in quotes
5:log.format:bad_value:"xml" is not one of json, text
5:log.level:bad_value:"loud" is not one of info, debug, warn, error
6:production:wrong_type:want true or false, is a text`},
		{"listen", small + "listen: localhost\n", `4:listen:bad_value:"localhost" is not HOST:PORT`},
		{"no broker", small + "kafka: {brokers: []}\n", `4:kafka.brokers:bad_value:names no broker`},
		{"topics", small + "kafka: {brokers: [b:1], verdicts: x, dead_letters: x}\n",
			`4:kafka.dead_letters:duplicate_topic:verdicts and dead letters need two topics`},
		{"tls files", small + "kafka: {brokers: [b:1], tls: {ca: none.pem, cert: client.pem}}\n",
			`4:kafka.tls.ca:file_missing:the file "none.pem" cannot be read: there is no such file
4:kafka.tls:missing_key:cert and key go together: a client certificate needs both`},
		{"sasl plain", small + "kafka: {brokers: [b:1], sasl: {mechanism: PLAIN, username: u, token: t}}\n",
			`4:kafka.sasl:missing_key:PLAIN needs password
4:kafka.sasl.token:bad_value:PLAIN has no use for token`},
		{"sasl token", small + "kafka: {brokers: [b:1], sasl: {mechanism: OAUTHBEARER, username: u}}\n",
			`4:kafka.sasl:missing_key:OAUTHBEARER needs one of token and token_file
4:kafka.sasl.username:bad_value:OAUTHBEARER has no use for username`},
		{"sasl mechanism", small + "kafka: {brokers: [b:1], sasl: {mechanism: SCRAM}}\n",
			`4:kafka.sasl.mechanism:bad_value:"SCRAM" is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER`},
		{"landing", "contracts: [contracts/*.yaml]\nkeys: {default: keyfile:///k#d}\nlanding: {url: s3://user:pass@bucket, segment: {records: 0, bytes: 1, age: 1h30}}\n",
			`3:landing.url:bad_value:the URL of a bucket holds no credentials; give them in the environment
3:landing.segment.records:bad_value:"0" is not a whole number from 1 to 100000000
3:landing.segment.bytes:bad_value:"1" is not from 1KiB to 16GiB
3:landing.segment.age:bad_value:"1h30" is not a time span such as 500ms, 30s, 5m or 1h`},
		{"landing without a url", "contracts: [contracts/*.yaml]\nkeys: {default: keyfile:///k#d}\nlanding: {}\n",
			`3:landing.url:missing_key:the required key "url" is missing`},
		{"landing with a host", "contracts: [contracts/*.yaml]\nkeys: {default: keyfile:///k#d}\nlanding: {url: file://var/x}\n",
			`3:landing.url:bad_value:"file://var/x" names a host; want file:///PATH for an absolute path or file://./PATH for one relative to this file`},
		{"landing in no bucket", "contracts: [contracts/*.yaml]\nkeys: {default: keyfile:///k#d}\nlanding: {url: azblob:///x}\n",
			`3:landing.url:bad_value:"azblob:///x" is no URL of a bucket; want SCHEME://BUCKET/PREFIX?OPTIONS`},
		{"landing is a path", "contracts: [contracts/*.yaml]\nkeys: {default: keyfile:///k#d}\nlanding: {url: /var/x}\n",
			`3:landing.url:bad_value:"/var/x" is no URL; want file:///PATH`},
		{"keys", "contracts: [contracts/*.yaml]\nlanding: {url: file:///l}\nkeys:\n  accepted: awskms://k?regoin=x\n  rejected: keyfile:///k\n  sate: x\n  state: vault://x\n  previous: [gcpkms://k, ./keys.json]\n",
			`3:keys:missing_key:"quarantined" has no key and there is no "default"
4:keys.accepted:bad_value:"awskms://k?regoin=x": unknown parameter behind ?; awskms takes region, endpoint, profile
5:keys.rejected:bad_value:"keyfile:///k" does not say which key of the file; end it with #NAME
6:keys.sate:unknown_key:unknown key "sate"; the nearest known key is "state"
7:keys.state:bad_value:"vault://x": unknown scheme; want keyfile, awskms, azurekeyvault, gcpkms, hashivault
8:keys.previous[0]:bad_value:"gcpkms://k": want gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY
8:keys.previous[1]:bad_value:"./keys.json" is no URL; want keyfile:///PATH`},
		{"key material", "contracts: [contracts/*.yaml]\nkeys: {default: keyfile:///k#d}\nlanding: {url: file:///l, key_material: extern}\n",
			`3:landing.key_material:bad_value:"extern" is not one of internal, external`},
		{"production", small + "production: true\n", `3:keys.default:local_key:production: true refuses a key that lies in a local file; name one in a key service, such as awskms://KEYID`},
		{"contracts", "contracts: [contracts/*.yaml, contracts/*.yml, none/*.yaml, '[', contracts/*.contract]\nlanding: {url: file:///l}\nkeys: {default: keyfile:///k#d}\n",
			`1:contracts[1]:duplicate_topic:two contracts for topic "reviews": DIR/contracts/reviews.yaml and DIR/contracts/reviews.yml
1:contracts[2]:no_match:"none/*.yaml" matches no file
1:contracts[3]:bad_value:"[" is no pattern for file names
another.contract 3:classification:bad_value:"publik" is not one of public, internal, confidential, restricted
broken.contract 1:owner:missing_key:the required key "owner" is missing
broken.contract 2:ownr:unknown_key:unknown key "ownr"; the nearest known key is "owner"`},
		{"own topic", "contracts: [contracts/verdicts.yml]\nlanding: {url: file:///l}\nkeys: {default: keyfile:///k#d}\nkafka: {brokers: [b:1]}\n",
			`1:contracts[0]:duplicate_topic:DIR/contracts/verdicts.yml is a contract for "taster.verdicts", a topic that taster itself writes to`},
		{"no contract", "contracts: []\nlanding: {url: file:///l}\nkeys: {default: keyfile:///k#d}\n",
			`1:contracts:bad_value:names no contract; a topic without one is refused`},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := folder(t, test.text)
			c, faults := Load(path)
			if c != nil {
				t.Error("a configuration with faults was returned")
			}
			var lines []string
			for _, f := range faults {
				line := fmt.Sprintf("%d:%s:%s:%s", f.Line, f.Field, f.Code, strings.ReplaceAll(f.Detail, filepath.Dir(path), "DIR"))
				if f.File != path {
					line = filepath.Base(f.File) + " " + line
				}
				lines = append(lines, line)
			}
			if got := strings.Join(lines, "\n"); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
	if _, faults := Load(filepath.Join(t.TempDir(), "none")); len(faults) != 1 || faults[0].Code != strict.FileMissing {
		t.Errorf("a configuration that is not there: %v", faults)
	}
}

// TestSecretsStaySecret prints a configuration in every way there is.
func TestSecretsStaySecret(t *testing.T) {
	c := &Config{Kafka: Kafka{SASL: &SASL{Username: "u", Password: NewSecret("hunter2"), Token: NewSecret("hunter3")}}}
	hidden := struct{ s Secret }{NewSecret("hunter2")}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "sasl", c.Kafka.SASL, "password", c.Kafka.SASL.Password)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "sasl", c.Kafka.SASL, "password", c.Kafka.SASL.Password)
	shown := string(text) + log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb, *c.Kafka.SASL) + fmt.Sprintf(verb, c.Kafka.SASL.Password) + fmt.Sprintf(verb, hidden)
	}
	for _, secret := range []string{"hunter", fmt.Sprintf("%x", "hunter")} {
		if strings.Contains(shown, secret) {
			t.Errorf("a secret was shown: %s", shown)
		}
	}
	if !strings.Contains(string(text), `"password":"redacted"`) {
		t.Errorf("the password is not shown as redacted: %s", text)
	}
}

func TestDigest(t *testing.T) {
	make := func(change func(*Config)) [32]byte {
		c := &Config{
			Path:      "a",
			Kafka:     Kafka{Brokers: []string{"b:1"}, SASL: &SASL{Password: NewSecret("one")}},
			Contracts: []*contract.Contract{{Topic: "x", Digest: [32]byte{1}}},
			Keys:      Keys{"default": "keyfile:///k#d"},
		}
		change(c)
		return c.Digest()
	}
	base := make(func(*Config) {})
	for what, change := range map[string]func(*Config){
		"nothing":       func(*Config) {},
		"the path":      func(c *Config) { c.Path = "b" },
		"a secret":      func(c *Config) { c.Kafka.SASL.Password = NewSecret("two") },
		"no secret":     func(c *Config) { c.Kafka.SASL.Password = Secret{} },
		"a broker":      func(c *Config) { c.Kafka.Brokers = []string{"b:2"} },
		"a contract":    func(c *Config) { c.Contracts[0].Digest[0]++ },
		"a key":         func(c *Config) { c.Keys["state"] = "keyfile:///k#s" },
		"a former key":  func(c *Config) { c.Previous = []string{"awskms://k"} },
		"key material":  func(c *Config) { c.Landing.External = true },
		"the log level": func(c *Config) { c.Log.Level = slog.LevelDebug },
		"production":    func(c *Config) { c.Production = true },
	} {
		same := slices.Contains([]string{"nothing", "the path", "a secret"}, what)
		if got := make(change); (got == base) != same {
			t.Errorf("%s changed: digests equal: %v", what, got == base)
		}
	}
}
