//go:build services

package storage_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/tasterhq/taster/sink/storage"
	"github.com/tasterhq/taster/sink/storage/storagetest"
)

// link is a connection between client and server that can be made bad below HTTP.
type link struct{ *toxiproxy.Proxy }

func newLink(t *testing.T, target string) link {
	t.Helper()
	quiet := zerolog.Nop()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), quiet), t.Name(), "127.0.0.1:0", target)
	p.Logger = &quiet
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return link{p}
}

func (l link) poison(t *testing.T, toxic string) {
	t.Helper()
	if _, err := l.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
}

// Links that are slow, that die, and that are cut in the middle of a part or of an answer.
func TestStoreLinks(t *testing.T) {
	for _, one := range stores {
		if one.name == "gcs" {
			continue // it serves its own address only, which a proxy of connections cannot change
		}
		t.Run(one.name, func(t *testing.T) {
			server := one.start(t)
			clean, err := storage.Open(t.Context(), server.URL())
			if err != nil {
				t.Fatal(err)
			}
			data := storagetest.Pattern(9<<20, 1)
			if err := clean.Put(t.Context(), "there", data); err != nil {
				t.Fatal(err)
			}
			for _, toxic := range []struct {
				name, json string
				works      bool
			}{
				{"slow", `{"name":"x","type":"bandwidth","stream":"upstream","attributes":{"rate":20000}}`, true},
				{"late", `{"name":"x","type":"latency","stream":"downstream","attributes":{"latency":30,"jitter":20}}`, true},
				{"sliced", `{"name":"x","type":"slicer","stream":"downstream","attributes":{"average_size":5000,"size_variation":1000,"delay":10}}`, true},
				{"cut on the way up", `{"name":"x","type":"limit_data","stream":"upstream","attributes":{"bytes":3000000}}`, false},
				{"no answers", `{"name":"x","type":"limit_data","stream":"downstream","attributes":{"bytes":0}}`, false},
				{"dead", `{"name":"x","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`, false},
				{"reset", `{"name":"x","type":"reset_peer","stream":"downstream","attributes":{"timeout":0}}`, false},
			} {
				t.Run(toxic.name, func(t *testing.T) {
					l := newLink(t, server.Address)
					patience := "&timeout=20s"
					if !toxic.works {
						patience = "&timeout=2s"
					}
					s, err := storage.OpenReadOnly(t.Context(), server.Via(l.Listen)+patience)
					if err != nil {
						t.Fatal(err)
					}
					l.poison(t, toxic.json)
					name := "written/" + toxic.name
					switch err := upload(s, t.Context(), name, data); {
					case toxic.works && err != nil, !toxic.works && !errors.Is(err, storage.ErrUnavailable):
						t.Errorf("upload: %v", err)
					case err == nil:
						storagetest.Holds(t, clean, name, data)
					default:
						storagetest.Missing(t, clean, name)
					}
					r, err := s.Open(t.Context(), "there")
					if err == nil {
						_, err = io.Copy(io.Discard, io.NewSectionReader(r, 0, r.Size()))
						r.Close()
					}
					reads := toxic.works || toxic.name == "cut on the way up"
					if reads && err != nil || !reads && !errors.Is(err, storage.ErrUnavailable) {
						t.Errorf("read: %v", err)
					}
					storagetest.NoGoroutines(t)
					// Where no answer comes through the store may have begun an upload that nobody knows the id of.
					if one.name == "s3" && reads && unfinished(t, server) != 0 {
						t.Errorf("%d unfinished uploads", unfinished(t, server))
					}
				})
			}
		})
	}
}
