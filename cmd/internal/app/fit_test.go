package app_test

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tasterhq/taster/cmd/internal/app"
	"github.com/tasterhq/taster/sink/envelope"
)

// Who holds the key of state but not the zone's signing key cannot make a reference that is believed, nor let one
// version stand for another.
func TestReferenceIsSigned(t *testing.T) {
	c, rows := workplace(t)
	open := func() *app.App {
		t.Helper()
		a, err := app.Open(t.Context(), c, slog.New(slog.NewTextHandler(io.Discard, nil)), "test")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	contract, err := a.Contract("numbers")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := a.Fit(t.Context(), contract, []string{rows}, app.FitOptions{}, func(int64) {}); err != nil {
			t.Fatal(err)
		}
	}
	against := func(name string) error {
		_, err := a.Fit(t.Context(), contract, []string{rows}, app.FitOptions{Against: name, DryRun: true}, func(int64) {})
		return err
	}
	if err := against("numbers@2"); err != nil {
		t.Fatal(err)
	}
	settings := envelope.Settings{Zones: c.Keys}
	keys, err := settings.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	landing := filepath.Join(filepath.Dir(rows), "landing")
	object := func(version string) string { return "_reference/numbers/" + version + "/reference.sealed" }
	read := func(version string) []byte {
		t.Helper()
		sealed, err := os.ReadFile(filepath.Join(landing, object(version)))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := keys.Unseal(t.Context(), object(version), sealed)
		if err != nil {
			t.Fatal(err)
		}
		return plain
	}
	first := read("1")
	at := strings.Index(string(first), "taster-reference")
	for name, plain := range map[string][]byte{
		"of another version": first,
		"unsigned":           append([]byte{0, 0, 0, 0}, first[at:]...),
		"cut off":            first[:3],
		"of other rows":      append(append([]byte{}, read("2")[:at]...), append([]byte("x"), first[at+1:]...)...),
	} {
		sealed, err := keys.Seal(t.Context(), envelope.State, object("2"), plain)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(landing, object("2")), sealed, 0o600); err != nil {
			t.Fatal(err)
		}
		err = against("numbers@2")
		if !errors.Is(err, app.ErrReference) {
			t.Errorf("a reference %s: %v", name, err)
		}
	}
	if err := a.Close(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
