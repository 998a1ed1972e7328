//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// chance returns a random source whose seed is printed, and can be set by TASTER_TEST_SEED.
func chance(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TASTER_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TASTER_TEST_SEED: %v", err)
		}
	}
	t.Logf("TASTER_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// flight makes a record. Every 101st is cut off, and every 401st is from far beyond the others.
func flight(i int) []byte {
	distance := 100 + i%2900
	if i%401 == 0 {
		distance = 40_000_000 + i
	}
	text := fmt.Sprintf(`{"id":"%07d","date":"2001/01/%02d 10:%02d","delay":%d,"distance":%d,"origin":"DTW","destination":"LAS"}`, i, 1+i%28, i%60, i%97-20, distance)
	if i%101 == 0 {
		text = text[:len(text)-20]
	}
	return []byte(text)
}

func flightID(i int) string { return fmt.Sprintf("%07d", i) }

// TestKillAndRebalance has one instance stopped in the middle of its work and thrown out of its group, and the next one
// killed in the middle of its own. A third takes over, the first wakes up as a writer who believes that everything is
// still its own, and then shares the partitions. It is the small brother of TestKafka/chaos, on the embedded broker.
//
// A member is thrown out only while it is the group's only one: kfake does not answer a join whose member is gone, and
// never misses a member that dies between its join and its sync.
func TestKillAndRebalance(t *testing.T) {
	const topic, each = "flights", 1200
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, topic), kfake.SeedTopics(1, topic+".verdicts", topic+".dead"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	brokers := cluster.ListenAddrs()
	s := newSite(t, topic, brokers, "", "{records: 300, age: 300ms}")
	random := chance(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	published := newTruth()
	send := func() {
		t.Helper()
		var batch []*kgo.Record
		for i := len(published.values); len(batch) < each; i++ {
			batch = append(batch, published.record(flightID(i), flight(i)))
		}
		if err := cl.ProduceSync(t.Context(), batch...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	assigned := func(i *instance, partitions int) {
		t.Helper()
		within(t, "partitions to be assigned", func() bool { return strings.Count(i.log.text(), "partition assigned") >= partitions })
	}
	whileItWorks := func() { time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) }

	first := s.start()
	assigned(first, 4)
	send()
	whileItWorks()
	first.pause()
	evict(t, brokers, s.group)

	second := s.start()
	assigned(second, 4)
	send()
	whileItWorks()
	second.kill()
	evict(t, brokers, s.group)

	third := s.start()
	assigned(third, 4)
	send()
	whileItWorks()
	first.proceed()
	assigned(first, 5)
	send()
	s.awaitOffsets(topicIDOf(t, cl, topic), int64(len(published.values)))
	stopAll(first, third)
	flagged := published.compare(s)
	s.verify()
	checkEvents(t, topic, flagged, readAll(t, brokers, topic+".verdicts"), readAll(t, brokers, topic+".dead"))
}

// TestAnotherLandingZone starts the same group on an empty folder, as happens where a file system is not mounted: that is
// told, loudly, and everything lands there from the beginning.
func TestAnotherLandingZone(t *testing.T) {
	const topic = "flights"
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic, topic+".verdicts", topic+".dead"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	s := newSite(t, topic, cluster.ListenAddrs(), "", "{records: 100, age: 200ms}")
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	published := newTruth()
	for i := range 300 {
		if err := cl.ProduceSync(t.Context(), published.record(flightID(i), flight(i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	id := topicIDOf(t, cl, topic)
	first := s.start()
	s.awaitOffsets(id, 300)
	first.stop()
	if err := os.Rename(s.landing, s.landing+".away"); err != nil {
		t.Fatal(err)
	}
	second := s.start()
	second.await("is it mounted", `"offset":300`, `"landed":0`)
	s.awaitOffsets(id, 300)
	second.stop()
	published.compare(s)
}
