//go:build services

package bench

import (
	"testing"

	"github.com/tasterhq/taster/ingest/kafka/kafkatest"
)

// BenchmarkLatencyKafka is BenchmarkLatency with a real Apache Kafka on this machine, which takes its own share of the
// processors.
func BenchmarkLatencyKafka(b *testing.B) {
	broker := kafkatest.Start(b)
	for _, topic := range []string{"taster.verdicts", "taster.dead-letters"} {
		broker.CreateTopic(b, topic, 1)
	}
	for _, k := range kinds {
		broker.CreateTopic(b, k.topic, partitions)
		b.Run(k.topic, func(b *testing.B) {
			w := k.configure(b)
			w.brokers = []string{broker.Plain}
			k.latency(b, w, "Apache Kafka")
		})
	}
}
