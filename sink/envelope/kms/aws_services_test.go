//go:build services

package kms

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/tasterhq/taster/sink/envelope"
)

// moto starts an AWS of PyPI's moto and returns its endpoint.
func moto(t *testing.T) string {
	t.Helper()
	python := os.Getenv("TASTER_PYTHON")
	if python == "" {
		t.Skip("TASTER_PYTHON is not set: want a Python with what testdata/services/requirements.txt lists")
	}
	program := filepath.Join(filepath.Dir(python), "moto_server")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("moto_server is not installed beside TASTER_PYTHON: %v", err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	host, port, _ := net.SplitHostPort(address)
	free.Close()
	log, err := os.Create(filepath.Join(t.TempDir(), "moto.log"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(program, "-H", host, "-p", port)
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		log.Close()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if answer, err := http.Get("http://" + address + "/moto-api/"); err == nil {
			answer.Body.Close()
			return "http://" + address
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("moto_server does not answer: %s", text)
		}
	}
}

func TestKMSAWS(t *testing.T) {
	endpoint := moto(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	ctx := t.Context()
	open := func(key string) (*AWS, string) {
		t.Helper()
		url := "awskms://" + key + "?region=eu-west-1&endpoint=" + endpoint
		k, err := Open(ctx, parse(t, url))
		if err != nil {
			t.Fatal(err)
		}
		return k.(*AWS), url
	}
	admin, _ := open("none")
	create := func() (id, arn string) {
		t.Helper()
		out, err := admin.client.CreateKey(ctx, &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		return *out.KeyMetadata.KeyId, *out.KeyMetadata.Arn
	}
	id, arn := create()
	k, url := open(id)
	conform(t, k, url)
	k, url = open("/" + arn)
	conform(t, k, url)
	if _, err := admin.client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/train"), TargetKeyId: &id}); err != nil {
		t.Fatal(err)
	}
	k, url = open("alias/train")
	conform(t, k, url)

	// An alias may be pointed at a new key: what the old one wrapped still opens.
	named := envelope.InZone("awskms://alias/train?region=eu-west-1", envelope.Accepted)
	wrapped, err := k.WrapKey(ctx, secret, named)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := create()
	if _, err := admin.client.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/train"), TargetKeyId: &second}); err != nil {
		t.Fatal(err)
	}
	if got, err := k.UnwrapKey(ctx, wrapped, named); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("after the alias moved: %v", err)
	}
	// One key does not open what another wrapped, though the caller could use both.
	other, url := open(second)
	of := envelope.InZone(parse(t, url).ID(), envelope.Accepted)
	_, err = other.UnwrapKey(ctx, wrapped, of)
	check(t, "another key", err, envelope.ErrDenied, of) // so moto says; AWS itself has IncorrectKeyException, see TestAWSErrors

	k, url = open("11111111-2222-3333-4444-555555555555")
	of = envelope.InZone(parse(t, url).ID(), envelope.Accepted)
	_, err = k.WrapKey(ctx, secret, of)
	check(t, "no such key", err, envelope.ErrNoKey, of)

	k, _ = open(second)
	k.client = kms.New(k.client.Options(), func(o *kms.Options) { o.BaseEndpoint = aws.String("http://127.0.0.1:1") })
	_, err = k.WrapKey(ctx, secret, of)
	check(t, "away, wrap", err, envelope.ErrUnavailable, of)
	_, err = k.UnwrapKey(ctx, wrapped, of)
	check(t, "away, unwrap", err, envelope.ErrUnavailable, of)
	short, cancel := context.WithCancel(ctx)
	cancel()
	_, err = k.WrapKey(short, secret, of)
	check(t, "cancelled", err, envelope.ErrUnavailable, of)
}
