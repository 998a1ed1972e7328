//go:build services

package enginetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/tasterhq/taster/sink/envelope"
)

func TestPyarrowWritesAndReads(t *testing.T) { writesAndReads(t, StartPyarrow(t)) }

// The client's own tests, over the wheel as pip installs it.
func TestPyarrowClient(t *testing.T) {
	python := Python(t, "pyarrow.parquet.encryption", "cryptography")
	run := exec.Command(python, "-m", "unittest", "discover", "-s", client(t, "python", "tests"))
	run.Dir = t.TempDir()
	run.Env = append(os.Environ(), "PYTHONPATH="+InstallWheel(t), "PYTHONDONTWRITEBYTECODE=1")
	out, err := run.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("\nRan ")) || bytes.Contains(out, []byte("skipped")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestPyarrowClientTypes(t *testing.T) {
	python := Python(t, "mypy")
	out, err := exec.Command(python, "-m", "mypy", "--config-file", client(t, "python", "pyproject.toml"), "--cache-dir", t.TempDir(),
		client(t, "python", "taster_kms")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The wheel as the guide says that it is had, but for the host. The repository is one made for the test, with the same
// folder in the same place: this one may be shallow, somebody else's, or a plain copy without history.
func TestPyarrowClientFromRepository(t *testing.T) {
	python := Python(t, "pip", "flit_core")
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "sink", "kmsclient", "python"), os.DirFS(client(t, "python"))); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "."}, {"-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "all"}} {
		if out, err := exec.Command("git", append([]string{"-C", root}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	dir := t.TempDir()
	out, err := exec.Command(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation",
		"--target", dir, "taster-kms @ git+file://localhost"+root+"#subdirectory=sink/kmsclient/python").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "taster_kms", "py.typed")); err != nil {
		t.Error(err)
	}
}

// What the guide says of files under another name: a prefix that is stored is believed, unless one is given to compare.
func TestPyarrowAADPrefix(t *testing.T) {
	var got []string
	err := StartPyarrow(t).Run(`
import os, tempfile, pyarrow as pa, pyarrow.parquet as pq, pyarrow.parquet.encryption as pe
key, result = os.urandom(32), []
with tempfile.TemporaryDirectory() as folder:
    for stored in True, False:
        path = os.path.join(folder, "renamed.parquet")
        how = pe.create_encryption_properties(key, aad_prefix=b"its name", store_aad_prefix=stored)
        pq.write_table(pa.table({"x": [1]}), path, encryption_properties=how)
        for prefix in None, b"its name", b"renamed":
            try:
                pq.ParquetFile(path, decryption_properties=pe.create_decryption_properties(key, aad_prefix=prefix)).read()
                result.append("opens")
            except OSError as e:
                result.append("refused")
`, nil, "result", &got)
	want := []string{"opens", "opens", "refused", "refused", "opens", "refused"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

// writesAndReads checks the clients' wrapping, which reading alone does not reach, in every form of key material.
func writesAndReads(t *testing.T, e *Engine) {
	keyFile := filepath.Join(t.TempDir(), "keys.json")
	if err := envelope.CreateKeyFile(keyFile, "footer", "column"); err != nil {
		t.Fatal(err)
	}
	keys := []string{"keyfile://" + keyFile + "#footer", "keyfile://" + keyFile + "#column"}
	for i, enc := range []Encryption{
		{},
		{Columns: map[string][]string{"column": {"text", "place.city", "embedding.list.element"}}},
		{External: true},
		{External: true, Columns: map[string][]string{"column": {"text", "raw"}}},
		{Single: true, PlaintextFooter: true, Columns: map[string][]string{"column": {"amount"}}},
	} {
		enc.Keys, enc.Footer = keys, "footer"
		path := filepath.Join(t.TempDir(), fmt.Sprintf("sample-%d.parquet", i))
		want, err := e.WriteSample(path, 50, enc)
		if err != nil {
			t.Fatalf("%+v: %v", enc, err)
		}
		folder := path
		if e.Name == "pyarrow" {
			folder = filepath.Dir(path)
		}
		beside, err := filepath.Glob(filepath.Join(folder, "_KEY_MATERIAL_FOR_*.json"))
		if err != nil || len(beside) > 0 != enc.External {
			t.Errorf("%+v: key material beside the data: %v, %v", enc, beside, err)
		}
		got, err := e.Read(Query{Paths: []string{path}, Keys: keys})
		if err != nil {
			t.Fatalf("%+v: %v", enc, err)
		}
		if len(got.Rows) != len(want) {
			t.Fatalf("%+v: %d rows read, %d written", enc, len(got.Rows), len(want))
		}
		for i := range want {
			if !reflect.DeepEqual(got.Rows[i], want[i]) {
				t.Errorf("%+v: read %v, written %v", enc, got.Rows[i], want[i])
				break
			}
		}
		if _, err := e.Read(Query{Paths: []string{path}, Keys: keys[:1]}); (err == nil) != (enc.Columns == nil) {
			t.Errorf("%+v: with the footer key only: %v", enc, err)
		}
	}
}
