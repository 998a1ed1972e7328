// Package kafkatest runs a real Apache Kafka for tests, and makes what happens to topics in a cluster's life happen:
// they are made, grow, are deleted and made again, and producers abort their transactions.
//
// The broker is a child process on loopback, on free ports, in KRaft mode, with one log folder that goes away with
// it. It ends when it is stopped, and also when the test's own process ends in any way. Its jars are fetched by Maven
// from testdata/services/kafka/pom.xml, once, into .cache at the root of the repository. Without java or mvn there is
// no broker: [Start] skips the test and says so.
package kafkatest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrUnavailable says that this machine has not what it takes to run Kafka.
var ErrUnavailable = errors.New("no Apache Kafka can run here")

// The users that the secured listeners know.
const (
	User     = "taster"
	Password = "correct horse battery staple" // by SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN
)

// Broker is a running Kafka of one node. It has a listener of each kind.
type Broker struct {
	Plain string // PLAINTEXT
	SASL  string // SASL_SSL: SCRAM-SHA-256, SCRAM-SHA-512, PLAIN, and OAUTHBEARER with unsigned tokens
	TLS   string // SSL that wants a client certificate of Authority

	Authority *Authority
	Log       string // the file with what the broker printed

	dir  string
	lib  string // the folder with Kafka's jars
	pid  int
	hold io.Closer // the process ends when this is closed
	wait func() error
}

// Start runs a broker until the test ends.
func Start(tb testing.TB) *Broker {
	tb.Helper()
	b, err := Launch()
	if errors.Is(err, ErrUnavailable) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Stop)
	return b
}

// Launch runs a broker until Stop is called: for those that share one among several tests.
func Launch() (*Broker, error) {
	lib, err := jars()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kafkatest-")
	if err != nil {
		return nil, err
	}
	b := &Broker{dir: dir, lib: lib, Log: filepath.Join(dir, "broker.out")}
	if err := b.launch(); err != nil {
		printed, _ := os.ReadFile(b.Log)
		err = fmt.Errorf("starting Kafka: %w\n%s", err, printed[max(0, len(printed)-4000):])
		b.Stop()
		return nil, err
	}
	return b, nil
}

// Stop ends the broker at once, as a power cut would, and removes its files.
func (b *Broker) Stop() {
	b.Down()
	_ = os.RemoveAll(b.dir)
}

// Down ends the broker at once and keeps its files, for Up.
func (b *Broker) Down() {
	if b.hold != nil {
		_ = b.hold.Close()
		_ = b.wait()
		b.hold = nil
	}
}

// Up runs a broker again that Down has ended: with the same files, on the same ports.
func (b *Broker) Up(tb testing.TB) {
	tb.Helper()
	if err := b.run(); err != nil {
		printed, _ := os.ReadFile(b.Log)
		tb.Fatalf("starting Kafka again: %v\n%s", err, printed[max(0, len(printed)-4000):])
	}
}

// guarded runs the command in its arguments, prints its process id, and kills it when standard input ends: the pipe
// that is its standard input ends with the test's process, however that ends.
const guarded = `"$@" </dev/null >>"$OUT" 2>&1 & pid=$!; echo $pid; while read -r _; do :; done; kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null`

func (b *Broker) launch() error {
	var err error
	if b.Authority, err = NewAuthority(b.dir); err != nil {
		return err
	}
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	b.Plain, b.SASL, b.TLS = ports[0], ports[1], ports[2]
	text, err := b.properties(ports[3])
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.propertiesFile(), []byte(text), 0o600); err != nil {
		return err
	}

	format := exec.Command("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", b.lib+"/*",
		"kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", b.propertiesFile(),
		"--add-scram", scramCredential("SCRAM-SHA-512"), "--add-scram", scramCredential("SCRAM-SHA-256"))
	if printed, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("formatting its log folder: %w\n%s", err, printed)
	}
	return b.run()
}

func (b *Broker) propertiesFile() string { return filepath.Join(b.dir, "server.properties") }

// run runs the broker on what launch has prepared, and returns when it is ready.
func (b *Broker) run() error {
	run := exec.Command("sh", "-c", guarded, "sh",
		"java", "-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", b.lib+"/*", "kafka.Kafka", b.propertiesFile())
	run.Env = append(os.Environ(), "OUT="+b.Log)
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
	b.hold, b.wait = in, run.Wait
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	if b.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return err
	}
	return b.waitReady(90 * time.Second)
}

func scramCredential(mechanism string) string {
	return fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, User, Password)
}

func (b *Broker) properties(controller string) (string, error) {
	cert, key, err := b.Authority.Issue("broker")
	if err != nil {
		return "", err
	}
	var store []byte
	for _, file := range []string{key, cert, b.Authority.CA} {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		store = append(store, text...)
	}
	keystore := filepath.Join(b.dir, "keystore.pem")
	if err := os.WriteFile(keystore, store, 0o600); err != nil {
		return "", err
	}
	listeners := fmt.Sprintf("PLAINTEXT://%s,SASL_SSL://%s,SSL://%s", b.Plain, b.SASL, b.TLS)
	return strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + controller,
		"controller.listener.names=CONTROLLER",
		"listeners=" + listeners + ",CONTROLLER://" + controller,
		"advertised.listeners=" + listeners,
		"inter.broker.listener.name=PLAINTEXT",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
		"log.dirs=" + filepath.Join(b.dir, "log"),
		"auto.create.topics.enable=false",
		"message.max.bytes=67108864",
		"offsets.topic.replication.factor=1",
		"offsets.topic.num.partitions=5",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"transaction.state.log.num.partitions=5",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
		"group.min.session.timeout.ms=1000",

		"sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER",
		"listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		fmt.Sprintf("listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%s=\"%s\";", User, Password),
		"listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";",

		"ssl.keystore.type=PEM",
		"ssl.keystore.location=" + keystore,
		"ssl.truststore.type=PEM",
		"ssl.truststore.location=" + b.Authority.CA,
		"listener.name.ssl.ssl.client.auth=required",

		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS",
		"allow.everyone.if.no.acl.found=true",
		"",
	}, "\n"), nil
}

// waitReady returns when the broker answers and can coordinate groups and transactions.
func (b *Broker) waitReady(limit time.Duration) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Plain))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := cl.Ping(ctx)
		if err == nil {
			return nil
		}
		if gone := syscall.Kill(b.pid, 0); gone != nil {
			return errors.New("it ended by itself")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s: %w", limit, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// freePorts returns n loopback addresses that nobody listens on.
func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that they differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

var versionInPOM = regexp.MustCompile(`<kafka\.version>([0-9.]+)</kafka\.version>`)

// jars returns the folder with Kafka's jars, after having them fetched if need be.
func jars() (string, error) {
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("%w: %s is not installed", ErrUnavailable, tool)
		}
	}
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	pom := filepath.Join(root, "testdata", "services", "kafka", "pom.xml")
	text, err := os.ReadFile(pom)
	if err != nil {
		return "", err
	}
	version := versionInPOM.FindSubmatch(text)
	if version == nil {
		return "", fmt.Errorf("%s names no kafka.version", pom)
	}
	lib := filepath.Join(root, ".cache", "kafka-"+string(version[1]))
	if _, err := os.Stat(lib); err == nil {
		return lib, nil
	}
	if err := os.MkdirAll(filepath.Dir(lib), 0o755); err != nil {
		return "", err
	}
	partial, err := os.MkdirTemp(filepath.Dir(lib), "kafka-partial-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(partial)
	fetch := exec.Command("mvn", "-B", "-q", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+partial, "-DincludeScope=runtime")
	if printed, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetching Kafka by Maven: %w\n%s", err, bytes.TrimSpace(printed))
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		return "", err
	}
	// Another test may have been quicker; then there is a whole folder already, and ours is thrown away.
	if err := os.Rename(partial, lib); err != nil {
		if _, statErr := os.Stat(lib); statErr != nil {
			return "", err
		}
	}
	return lib, nil
}

func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = parent
	}
}
