// Package enginetest runs pyarrow and Spark for tests, each with the KMS client that stands beside this package.
//
// An [Engine] is a Python process that does what it is asked, so that a test in Go pays for the start of a JVM once. The
// Python is $TASTER_PYTHON, or python3; it needs what testdata/services/requirements.txt lists. The clients are those
// of the working tree: the wheel is installed into, and the Java file compiled into, a folder that goes away with the
// test. Without Python, its packages, or for Spark a JDK, a test that asks for an engine is skipped and says why.
package enginetest

import (
	"bufio"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Engine is a running pyarrow or Spark. It takes one request at a time.
type Engine struct {
	Name    string // pyarrow or spark
	in      io.WriteCloser
	answers *bufio.Reader
	log     string // the file with what it printed
}

// Table is what an engine read: each row has a value for each column. Bytes are base64, times milliseconds since 1970,
// dates and decimals text.
type Table struct {
	Fields map[string]string // column to type, in the engine's own words
	Rows   []map[string]any
}

// Query says what to read.
type Query struct {
	Paths   []string // files; for Spark folders too
	Keys    []string // key URLs
	Columns []string // nil: all

	// For pyarrow only: read the paths as one dataset, with the schema of the file SchemaFrom unless that is "".
	Dataset    bool
	SchemaFrom string
}

// Read reads rows. The error holds all that the engine said.
func (e *Engine) Read(q Query) (*Table, error) {
	request := map[string]any{"op": "read", "paths": q.Paths, "keys": q.Keys, "columns": q.Columns}
	if q.Dataset {
		request["dataset"] = true
		if q.SchemaFrom != "" {
			request["schema_from"] = q.SchemaFrom
		}
	}
	var t Table
	if err := e.ask(request, &t); err != nil {
		return nil, err
	}
	return &t, nil
}

// Names returns the columns of a file and their types, having read its footer only.
func (e *Engine) Names(path string, keys ...string) (map[string]string, error) {
	var fields map[string]string
	return fields, e.ask(map[string]any{"op": "names", "path": path, "keys": keys}, &fields)
}

// Rotate has the engine's own key tools rewrap external key material: of a file with pyarrow, of a folder with Spark.
func (e *Engine) Rotate(path string, keys ...string) error {
	return e.ask(map[string]any{"op": "rotate", "path": path, "keys": keys}, nil)
}

// Encryption says how an engine encrypts what it writes.
type Encryption struct {
	Keys            []string            // key URLs
	Footer          string              // master key id of the footer; without Columns, of all columns too
	Columns         map[string][]string // master key id to leaf columns (embedding.list.element); what is not named stays in clear
	External        bool                // key material in a file beside it
	Single          bool                // single wrapping
	PlaintextFooter bool
	Settings        map[string]string // more: with Spark options of the writer, with pyarrow of write_table
}

// WriteSample writes n rows of a small table that has every common type: with pyarrow as the file path, with Spark as one
// file in the new folder path. It returns the rows in the form of Table.
func (e *Engine) WriteSample(path string, n int, enc Encryption) ([]map[string]any, error) {
	var rows []map[string]any
	return rows, e.ask(map[string]any{"op": "write", "path": path, "rows": n, "keys": enc.Keys, "footer": enc.Footer, "columns": enc.Columns,
		"external": enc.External, "single": enc.Single, "plaintext_footer": enc.PlaintextFooter, "settings": enc.Settings}, &rows)
}

// Run runs Python code in the engine, with the given names defined and with spark in Spark. It decodes into out, unless
// nil, what the name result stands for at the end; of a table or frame, the rows.
func (e *Engine) Run(code string, names map[string]any, result string, out any) error {
	if names == nil {
		names = map[string]any{}
	}
	return e.ask(map[string]any{"op": "run", "code": code, "names": names, "result": result}, out)
}

func (e *Engine) ask(request map[string]any, out any) error {
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := e.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s ended: %w\n%s", e.Name, err, e.printed())
	}
	text, err := e.answers.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s ended: %w\n%s", e.Name, err, e.printed())
	}
	var answer struct {
		Error string
		Value json.RawMessage
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%s: %s", e.Name, answer.Error)
	}
	if out == nil {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(answer.Value)))
	dec.UseNumber() // 64-bit integers stay what they are
	return dec.Decode(out)
}

func (e *Engine) printed() string {
	text, _ := os.ReadFile(e.log)
	return string(text[max(0, len(text)-4000):])
}

// Python returns the Python to use, or skips the test when it lacks one of the modules.
func Python(tb testing.TB, modules ...string) string {
	tb.Helper()
	python := os.Getenv("TASTER_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import "+strings.Join(modules, ", ")).CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		tb.Skipf("%s lacks one of %v (%v: %s): install testdata/services/requirements.txt and name that Python in TASTER_PYTHON",
			python, modules, err, lines[len(lines)-1])
	}
	return python
}

// InstallWheel installs the Python client from the working tree, as pip does for a user, and returns the folder to put
// into PYTHONPATH. Nothing is fetched.
func InstallWheel(tb testing.TB) string {
	tb.Helper()
	python := Python(tb, "pip", "flit_core")
	dir := tb.TempDir()
	out, err := exec.Command(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
		"--no-build-isolation", "--target", dir, client(tb, "python")).CombinedOutput()
	if err != nil {
		tb.Fatalf("pip install sink/kmsclient/python: %v\n%s", err, out)
	}
	return dir
}

// SparkHome returns the folder of pyspark, or skips the test when there is none.
func SparkHome(tb testing.TB) string {
	tb.Helper()
	out, err := exec.Command(Python(tb, "pyspark"), "-c", "import os, pyspark; print(os.path.dirname(pyspark.__file__))").Output()
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// CompileJar compiles the Java client against the jars of pyspark, as the guide says, and returns the jar.
func CompileJar(tb testing.TB) string {
	tb.Helper()
	home := SparkHome(tb)
	for _, tool := range []string{"java", "javac", "jar"} {
		if _, err := exec.LookPath(tool); err != nil {
			tb.Skipf("%s is not installed: Spark needs a JDK", tool)
		}
	}
	dir := tb.TempDir()
	classes, jar := filepath.Join(dir, "classes"), filepath.Join(dir, "taster-kms.jar")
	for _, command := range [][]string{
		{"javac", "-Xlint:all,-path", "-Werror", "--release", "17", "-cp", filepath.Join(home, "jars", "*"), "-d", classes,
			client(tb, "java", "io", "github", "tasterhq", "kms", "TasterKmsClient.java")},
		{"jar", "--create", "--file", jar, "-C", classes, "."},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			tb.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
	}
	return jar
}

// StartPyarrow runs pyarrow until the test ends.
func StartPyarrow(tb testing.TB) *Engine {
	tb.Helper()
	python := Python(tb, "pyarrow.parquet.encryption", "cryptography")
	return start(tb, "pyarrow", python, "PYTHONPATH="+InstallWheel(tb))
}

// StartSpark runs Spark, with one core, until the test ends. The start takes some ten seconds.
func StartSpark(tb testing.TB) *Engine {
	tb.Helper()
	python := Python(tb, "pyspark")
	jar := CompileJar(tb)
	tmp := tb.TempDir()
	return start(tb, "spark", python, "TASTER_KMS_JAR="+jar, "TASTER_SPARK_TMP="+tmp, "PYSPARK_PYTHON="+python, "SPARK_LOCAL_IP=127.0.0.1")
}

//go:embed wire.py sample.py pyarrow_driver.py spark_driver.py
var drivers embed.FS

func start(tb testing.TB, name, python string, env ...string) *Engine {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.CopyFS(dir, drivers); err != nil {
		tb.Fatal(err)
	}
	e := &Engine{Name: name, log: filepath.Join(dir, "log")}
	log, err := os.Create(e.log)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	run := exec.Command(python, filepath.Join(dir, name+"_driver.py"))
	run.Dir = dir
	run.Env = append(append(os.Environ(), "TZ=UTC"), env...)
	run.Stderr = log
	if e.in, err = run.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := run.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	e.answers = bufio.NewReader(out)
	if err := run.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		// The driver ends when its stdin does, also when this process dies, and Spark's JVM ends with its driver.
		e.in.Close()
		ended := make(chan error, 1)
		go func() { ended <- run.Wait() }()
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, os.ErrProcessDone) {
				tb.Errorf("%s: %v\n%s", name, err, e.printed())
			}
		case <-time.After(30 * time.Second):
			_ = run.Process.Kill()
			tb.Errorf("%s did not end when it was told to\n%s", name, e.printed())
		}
	})
	return e
}

// client returns the path of a file or folder beside this package, wherever in the repository the test runs.
func client(tb testing.TB, elem ...string) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(append([]string{dir, "sink", "kmsclient"}, elem...)...)
		}
		if filepath.Dir(dir) == dir {
			tb.Fatal("this test does not run within the repository")
		}
		dir = filepath.Dir(dir)
	}
}
