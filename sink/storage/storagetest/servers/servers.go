// Package servers runs real object stores for tests: versitygw for S3, azurite for Azure Blob Storage, fake-gcs-server
// for Google Cloud Storage.
//
// Each is a child process on loopback, on a free port, with a bucket of its own and nothing in it. It ends with the
// test, and also when the test's own process ends in any way. The servers are installed once, in the versions that
// testdata/services/objectstores pins, into .cache/tools at the root of the repository. Where go, or node and npm for
// azurite, are missing the test is skipped and told so.
//
//	url := servers.S3(t)               // s3://zone?endpoint=…, credentials in the environment
//	store, err := storage.Open(ctx, url)
//
// [StartS3] and the like give the server itself: to take it down and up again, or to reach it through a proxy.
package servers

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Bucket is the name of the bucket, or container, that every server begins with.
const Bucket = "zone"

// What the servers know their user by.
const (
	accessKey = "test"
	secretKey = "testsecret"
	// Azurite's own, https://learn.microsoft.com/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key
	azureAccount = "devstoreaccount1"
	azureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// Server is a running object store.
type Server struct {
	Address string // host:port
	Log     string // the file with what it printed

	kind    string
	dir     string
	command []string
	env     []string
	make    func(ctx context.Context, s *Server, bucket string) error
	url     func(address, bucket string) string
	pid     int
	hold    io.Closer // the process ends when this is closed
	wait    func() error
}

// URL returns the URL of the bucket.
func (s *Server) URL() string { return s.url(s.Address, Bucket) }

// Via returns the URL of the bucket as reached through a proxy at another address.
func (s *Server) Via(address string) string { return s.url(address, Bucket) }

// Of returns the URL of another bucket, which need not exist.
func (s *Server) Of(bucket string) string { return s.url(s.Address, bucket) }

// S3 runs versitygw until the test ends, and returns the URL of an empty bucket.
func S3(tb testing.TB) string { return StartS3(tb).URL() }

// Azure runs azurite until the test ends, and returns the URL of an empty container.
func Azure(tb testing.TB) string { return StartAzure(tb).URL() }

// GCS runs fake-gcs-server until the test ends, and returns the URL of an empty bucket.
func GCS(tb testing.TB) string { return StartGCS(tb).URL() }

// StartS3 runs versitygw, on a folder of its own, until the test ends. The environment is set for the AWS SDK.
func StartS3(tb testing.TB) *Server {
	tb.Helper()
	binary := goServer(tb, "versitygw")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		tb.Setenv(name, value)
	}
	s := &Server{
		kind: "versitygw", env: []string{"ROOT_ACCESS_KEY_ID=" + accessKey, "ROOT_SECRET_ACCESS_KEY=" + secretKey}, make: makeS3,
		url: func(address, bucket string) string {
			return "s3://" + bucket + "?region=us-east-1&use_path_style=true&endpoint=http://" + address
		},
	}
	s.start(tb, func(host, port string) []string {
		files := filepath.Join(s.dir, "files")
		if err := os.MkdirAll(files, 0o755); err != nil {
			tb.Fatal(err)
		}
		return []string{binary, "--port", host + ":" + port, "--keep-alive", "-q", "posix", files}
	})
	return s
}

func makeS3(ctx context.Context, s *Server, bucket string) error {
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + s.Address), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	})
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	return err
}

// StartAzure runs azurite, in memory, until the test ends. The environment is set for the Azure SDK.
func StartAzure(tb testing.TB) *Server {
	tb.Helper()
	folder := azurite(tb)
	for name, value := range map[string]string{
		"AZURE_STORAGE_ACCOUNT": azureAccount, "AZURE_STORAGE_KEY": azureKey, "AZURE_STORAGE_SAS_TOKEN": "", "AZURE_STORAGE_CONNECTION_STRING": "",
		"AZURE_STORAGEBLOB_CONNECTIONSTRING": "", "AZURE_STORAGE_DOMAIN": "", "AZURE_STORAGE_PROTOCOL": "",
	} {
		tb.Setenv(name, value)
	}
	s := &Server{
		kind: "azurite", make: makeAzure,
		url: func(address, bucket string) string {
			return "azblob://" + bucket + "?localemu=true&protocol=http&domain=" + address
		},
	}
	s.start(tb, func(host, port string) []string {
		return []string{"node", filepath.Join(folder, "node_modules", "azurite", "dist", "src", "blob", "main.js"),
			"--blobHost", host, "--blobPort", port, "--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"}
	})
	return s
}

func makeAzure(ctx context.Context, s *Server, bucket string) error {
	key, err := container.NewSharedKeyCredential(azureAccount, azureKey)
	if err != nil {
		return err
	}
	client, err := container.NewClientWithSharedKeyCredential("http://"+s.Address+"/"+azureAccount+"/"+bucket, key, nil)
	if err != nil {
		return err
	}
	_, err = client.Create(ctx, nil)
	return err
}

// StartGCS runs fake-gcs-server, in memory, until the test ends.
func StartGCS(tb testing.TB) *Server {
	tb.Helper()
	binary := goServer(tb, "fake-gcs-server")
	tb.Setenv("STORAGE_EMULATOR_HOST", "")
	s := &Server{
		kind: "fake-gcs-server", make: makeGCS,
		url: func(address, bucket string) string {
			return "gs://" + bucket + "?anonymous=true&endpoint=http://" + address + "/storage/v1/"
		},
	}
	s.start(tb, func(host, port string) []string {
		return []string{binary, "-scheme", "http", "-host", host, "-port", port, "-public-host", host + ":" + port, "-backend", "memory", "-log-level", "error"}
	})
	return s
}

func makeGCS(ctx context.Context, s *Server, bucket string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Address+"/storage/v1/b?project=test", strings.NewReader(`{"name":"`+bucket+`"}`))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("making bucket %s: %s", bucket, answer.Status)
	}
	return nil
}

// MakeBucket makes another bucket.
func (s *Server) MakeBucket(tb testing.TB, bucket string) {
	tb.Helper()
	if err := s.make(tb.Context(), s, bucket); err != nil {
		tb.Fatalf("%s: %v", s.kind, err)
	}
}

func (s *Server) start(tb testing.TB, command func(host, port string) []string) {
	tb.Helper()
	s.dir = tb.TempDir()
	s.Log = filepath.Join(s.dir, "server.out")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.Address = l.Addr().String()
	l.Close()
	host, port, _ := net.SplitHostPort(s.Address)
	s.command = command(host, port)
	tb.Cleanup(s.Down)
	s.Up(tb)
	s.MakeBucket(tb, Bucket)
}

// Down ends the server at once. What versitygw has stored stays; the others keep it in memory.
func (s *Server) Down() {
	if s.hold != nil {
		_ = s.hold.Close()
		_ = s.wait()
		s.hold = nil
	}
}

// guarded runs the command in its arguments, prints its process id, and kills it when standard input ends: the pipe
// that is its standard input ends with the test's process, however that ends.
const guarded = `"$@" </dev/null >>"$OUT" 2>&1 & pid=$!; echo $pid; while read -r _; do :; done; kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null`

// Up runs the server again that Down has ended, at the same address.
func (s *Server) Up(tb testing.TB) {
	tb.Helper()
	if err := s.run(); err != nil {
		printed, _ := os.ReadFile(s.Log)
		s.Down()
		tb.Fatalf("starting %s: %v\n%s", s.kind, err, printed[max(0, len(printed)-4000):])
	}
}

func (s *Server) run() error {
	run := exec.Command("sh", append([]string{"-c", guarded, "sh"}, s.command...)...)
	run.Env = append(append(os.Environ(), s.env...), "OUT="+s.Log)
	in, err := run.StdinPipe()
	if err != nil {
		return err
	}
	out, err := run.StdoutPipe()
	if err != nil {
		return err
	}
	if err := run.Start(); err != nil {
		return err
	}
	s.hold, s.wait = in, run.Wait
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	if s.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", s.Address)
		if err == nil {
			c.Close()
			return nil
		}
		if gone := syscall.Kill(s.pid, 0); gone != nil {
			return errors.New("it ended by itself")
		}
		if time.Since(began) > time.Minute {
			return fmt.Errorf("not ready after a minute: %w", err)
		}
	}
}

// goServer returns the binary of a server written in Go, which it installs if need be.
func goServer(tb testing.TB, name string) string {
	tb.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		tb.Skipf("%s cannot be installed: go is not there", name)
	}
	root := repositoryRoot(tb)
	pinned, err := os.ReadFile(filepath.Join(root, "testdata", "services", "objectstores", "go-servers.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(pinned)) {
		module, version, _ := strings.Cut(strings.TrimSpace(line), "@")
		if filepath.Base(module) != name {
			continue
		}
		folder := install(tb, root, name+"-"+version, func(folder string) *exec.Cmd {
			get := exec.Command("go", "install", module+"@"+version)
			get.Dir = folder // outside of this module
			get.Env = append(os.Environ(), "GOBIN="+folder, "GOFLAGS=")
			return get
		})
		return filepath.Join(folder, name)
	}
	tb.Fatalf("go-servers.txt does not name %s", name)
	return ""
}

// azurite returns the folder that azurite is installed in.
func azurite(tb testing.TB) string {
	tb.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			tb.Skipf("azurite cannot run: %s is not installed", tool)
		}
	}
	root := repositoryRoot(tb)
	var files [2][]byte
	names := [2]string{"package.json", "package-lock.json"}
	for i, name := range names {
		var err error
		if files[i], err = os.ReadFile(filepath.Join(root, "testdata", "services", "objectstores", name)); err != nil {
			tb.Fatal(err)
		}
	}
	version := fmt.Sprintf("%x", sha256.Sum256(bytes.Join(files[:], nil)))[:12]
	return install(tb, root, "azurite-"+version, func(folder string) *exec.Cmd {
		for i, name := range names {
			if err := os.WriteFile(filepath.Join(folder, name), files[i], 0o644); err != nil {
				tb.Fatal(err)
			}
		}
		get := exec.Command("npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund")
		get.Dir = folder
		return get
	})
}

// install returns .cache/tools/name below root, after having it filled by a command if it is not there.
func install(tb testing.TB, root, name string, command func(folder string) *exec.Cmd) string {
	tb.Helper()
	tools := filepath.Join(root, ".cache", "tools")
	folder := filepath.Join(tools, name)
	if _, err := os.Stat(folder); err == nil {
		return folder
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		tb.Fatal(err)
	}
	partial, err := os.MkdirTemp(tools, "partial-")
	if err != nil {
		tb.Fatal(err)
	}
	defer os.RemoveAll(partial)
	if printed, err := command(partial).CombinedOutput(); err != nil {
		tb.Fatalf("installing %s: %v\n%s", name, err, bytes.TrimSpace(printed))
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		tb.Fatal(err)
	}
	// Another test may have been quicker; then there is a whole folder already, and ours is thrown away.
	if err := os.Rename(partial, folder); err != nil {
		if _, statErr := os.Stat(folder); statErr != nil {
			tb.Fatal(err)
		}
	}
	return folder
}

func repositoryRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("no go.mod above the test's folder")
		}
		dir = parent
	}
}
