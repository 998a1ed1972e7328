package kafka

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	err := Config{
		Connection: Connection{
			Brokers: []string{"localhost", "host:0", ":9092"},
			TLS:     &TLS{Cert: "only.pem"},
			SASL:    &SASL{Mechanism: "GSSAPI"},
		},
		Topics:      []string{"reviews", "reviews", "no/slash", ""},
		BufferBytes: -1,
	}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`"localhost" is not host:port`, `port "0"`, `":9092" is not host:port`, "cert and key belong together", `"GSSAPI" is not supported`,
		"kafka.group", `"reviews" is named twice`, `"no/slash" is not a topic name`, `"" is not a topic name`, "buffer size is negative",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in\n%v", want, err)
		}
	}
}

func TestValidateSASL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sasl SASL
		want string
	}{
		{SASL{Mechanism: "PLAIN", Username: "u", Password: "p"}, ""},
		{SASL{Mechanism: "SCRAM-SHA-256", Username: "u", Password: "p"}, ""},
		{SASL{Mechanism: "SCRAM-SHA-512", Username: "u", Password: "p"}, ""},
		{SASL{Mechanism: "OAUTHBEARER", Token: "t"}, ""},
		{SASL{Mechanism: "OAUTHBEARER", TokenFile: "f"}, ""},
		{SASL{Mechanism: "OAUTHBEARER"}, "either a token or a token file"},
		{SASL{Mechanism: "OAUTHBEARER", Token: "t", TokenFile: "f"}, "either a token or a token file"},
		{SASL{Mechanism: "OAUTHBEARER", Token: "t", Username: "u"}, "takes no user name"},
		{SASL{Mechanism: "PLAIN", Username: "u"}, "wants a password"},
		{SASL{Mechanism: "PLAIN", Password: "p"}, "wants a user name"},
		{SASL{Mechanism: "PLAIN", Username: "u", Password: "p", Token: "t"}, "for OAUTHBEARER only"},
	} {
		err := Connection{Brokers: []string{"localhost:9092"}, SASL: &tt.sasl}.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %v, want %q", tt.sasl, err, tt.want)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	sasl := SASL{Mechanism: "PLAIN", Username: "u", Password: "hunter2", Token: "hunter2"}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("connecting", "sasl", sasl, "password", sasl.Password)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("connecting", "sasl", sasl, "password", sasl.Password)
	marshalled, err := json.Marshal(sasl)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(sasl), fmt.Sprintf("%+v", sasl), fmt.Sprintf("%#v", sasl), fmt.Sprintf("%s %q %x", sasl.Password, sasl.Password, sasl.Password),
		logged.String(), string(marshalled),
	} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("a secret in %q", text)
		}
	}
	if got := fmt.Sprint(sasl); !strings.Contains(got, "redacted") {
		t.Errorf("nothing says that there is a secret: %q", got)
	}
}

func TestHintRoundTrip(t *testing.T) {
	t.Parallel()
	const id = "Gxg6ncrlS3mbhkzU9aXkKQ"
	for _, tt := range []struct {
		committed int64
		metadata  string
		want      Hint
	}{
		{150, hintMetadata(id, 100), Hint{TopicID: id, First: 100, Next: 150}},
		{1, "taster1:" + id + ":0", Hint{TopicID: id, First: 0, Next: 1}},
		{100, hintMetadata(id, 100), Hint{}}, // an empty segment
		{50, hintMetadata(id, 100), Hint{}},  // set back by hand
		{150, "", Hint{}},
		{150, "sarama", Hint{}},
		{150, "taster2:" + id + ":100", Hint{}},
		{150, "taster1:" + id, Hint{}},
		{150, "taster1:" + id + ":-1", Hint{}},
		{150, "taster1:" + id + ":1e2", Hint{}},
		{150, "taster1:short:100", Hint{}},
		{150, "taster1:" + id + ":100:more", Hint{}},
	} {
		if got := parseHint(tt.committed, tt.metadata); got != tt.want {
			t.Errorf("%d with %q: %v, want %v", tt.committed, tt.metadata, got, tt.want)
		}
	}
}
