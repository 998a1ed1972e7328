//go:build services && linux

package torture

import (
	"flag"
	"testing"
	"time"

	"github.com/tasterhq/taster/ingest/kafka/kafkatest"
)

var (
	cycles = flag.Int("cycles", 40, "cycles on the embedded broker")
	onReal = flag.Int("real", 4, "cycles on a real Apache Kafka")
	from   = flag.Int("from", 0, "number of the first cycle on the embedded broker")
	seed   = flag.Uint64("seed", 0, "what strikes, and when; 0 draws it")
)

// TestTorture is make torture; with few cycles it is one of the tests against real services.
func TestTorture(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d", *seed)
	t.Run("embedded broker", func(t *testing.T) {
		k := campaign{t: t, name: "embedded", broker: fakeBroker(t), keys: newKeyService(t), slow: 1, seed: *seed, from: *from, to: *from + *cycles, each: 25}
		k.run()
	})
	t.Run("Apache Kafka", func(t *testing.T) {
		if *onReal == 0 {
			return
		}
		k := campaign{t: t, name: "kafka", broker: realBroker(t), keys: newKeyService(t), slow: 4, seed: *seed, to: *onReal, each: 12}
		k.run()
	})
}

// realBroker is Apache Kafka itself.
func realBroker(t *testing.T) *broker {
	t.Helper()
	kafka := kafkatest.Start(t)
	b := &broker{t: t, addrs: []string{kafka.Plain}, away: kafka.Down, back: func() { kafka.Up(t) }}
	b.open()
	t.Cleanup(b.close)
	return b
}
