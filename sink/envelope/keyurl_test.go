package envelope

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestKeyURL(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	const gcp = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"
	for text, want := range map[string]struct{ key, id string }{
		"awskms://1234abcd?region=eu-west-1&endpoint=http://127.0.0.1:1": {"1234abcd", "awskms://1234abcd?region=eu-west-1"},
		"awskms://alias/train":                            {"alias/train", "awskms://alias/train"},
		"awskms:///" + arn + "?profile=x":                 {arn, "awskms:///" + arn},
		"awskms://" + arn:                                 {arn, "awskms:///" + arn},
		"azurekeyvault://v.vault.azure.net/keys/train":    {"v.vault.azure.net/keys/train", "azurekeyvault://v.vault.azure.net/keys/train"},
		"azurekeyvault://v.vault.azure.net/keys/train/12": {"v.vault.azure.net/keys/train/12", "azurekeyvault://v.vault.azure.net/keys/train/12"},
		"gcpkms://" + gcp + "?endpoint=https://x":         {gcp, "gcpkms://" + gcp},
		"hashivault://train":                              {"train", "hashivault://train"},
		"hashivault://train?namespace=n&engine=a/transit": {"train", "hashivault://train?engine=a%2Ftransit&namespace=n"},
	} {
		got, err := ParseKeyURL(text)
		if err != nil || got.Key != want.key || got.ID() != want.id {
			t.Errorf("%s: key %q, id %q, %v", text, got.Key, got.ID(), err)
			continue
		}
		again, err := ParseKeyURL(got.ID())
		if err != nil || again.ID() != got.ID() {
			t.Errorf("%s: its id is no URL of the same key: %v", text, err)
		}
		id, zone := SplitZone(InZone(got.ID(), State))
		if id != got.ID() || zone != State || Context(InZone(id, State)) != "taster_zone=state" || Context(id) != "" {
			t.Errorf("%s: in its zone it is %q", text, InZone(got.ID(), State))
		}
	}
	for text, want := range map[string]string{
		"": "scheme", "x": "scheme", "vault://x": "scheme", "awskms://": "no key", "awskms://?region=x": "no key", "awskms://a b": "no key",
		"awskms://k#accepted": "#", "awskms://k?region=": "region", "awskms://k?region=a&region=b": "region", "awskms://k?zone=x": "parameter",
		"awskms://k?%zz=1": "?", "awskms://k?endpoint=kms.example": "endpoint", "awskms://k?endpoint=http://kms.example": "https",
		"azurekeyvault://v/keys/k": "VAULT-HOST", "azurekeyvault://v.vault.azure.net/k": "VAULT-HOST", "azurekeyvault://v.vault.azure.net/keys/k?x=1": "takes none",
		"gcpkms://projects/p": "cryptoKeys", "gcpkms://" + gcp + "/cryptoKeyVersions/1": "cryptoKeys", "hashivault://a/b": "engine",
	} {
		if _, err := ParseKeyURL(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something about %s", text, err, want)
		} else if len(text) > 15 && strings.Contains(err.Error(), text) {
			t.Errorf("%q is quoted: %v", text, err)
		}
	}
	if InZone("name", State) != "name" || Context("name#state") != "" {
		t.Error("the key of a key file has a zone")
	}
}

func TestSettings(t *testing.T) {
	file := newFile(t, "default")
	opened := 0
	s := Settings{
		Zones: map[string]string{"default": "hashivault://one", "accepted": "hashivault://one", "rejected": "keyfile://" + file.Path() + "#default"},
		Services: func(_ context.Context, key KeyURL) (KMS, error) {
			if key.Key == "broken" {
				return nil, ErrConfig
			}
			opened++
			return &memory{}, nil
		},
		Previous: []string{"hashivault://old"},
	}
	k, err := s.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if opened != 2 || k.MasterKeyID(Accepted) != "hashivault://one#accepted" || k.MasterKeyID(Rejected) != "default" {
		t.Errorf("%d services opened, %v", opened, k.MasterKeyIDs())
	}
	if err := k.Probe(ctx, State); err != nil {
		t.Error(err)
	}
	s.Zones["state"], s.Previous = "hashivault://broken", []string{"x://"}
	if _, err := s.Open(ctx); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "keys.state") || !strings.Contains(err.Error(), "keys.previous") {
		t.Errorf("got %v, want both faults", err)
	}
	if _, err := (Settings{Zones: map[string]string{"default": "hashivault://one"}}).Open(t.Context()); !errors.Is(err, ErrConfig) {
		t.Errorf("without services: %v", err)
	}
}
