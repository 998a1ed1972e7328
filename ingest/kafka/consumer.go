package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/tasterhq/taster/schema/record"
)

// Handler works off the sources that are assigned to a Consumer. Calls for different sources come at the same time;
// calls for one source never do.
type Handler interface {
	// Assigned returns the offset at which to begin. It may take its time: ctx ends when the group takes the
	// partition away before it has begun. An error, if ctx has not ended, ends Run.
	Assigned(ctx context.Context, src record.Source, hint Hint) (start int64, err error)

	// Messages hands over the messages that follow those of the last call, and the offset from which the next call
	// goes on: the last polled offset plus one. msgs may be empty, when the log held nothing but transaction
	// markers. The messages' slices may be kept as long as they are wanted, and must not be changed; msgs itself
	// is the handler's.
	//
	// A call that blocks is back-pressure, on this source only. ctx ends when the source is taken away: a call that
	// waits must then return, and what it returns is of no consequence. Any other error ends Run. Whoever can wait
	// for what is broken to come back (a disk, a key service) should wait, inside the call.
	Messages(ctx context.Context, src record.Source, msgs []record.Message, next int64) error

	// Revoked takes the source away. When it returns, nothing may work on the source any more. Until ctx ends
	// there is time to land what is there, and to commit. If lost is true, the source may already be another
	// member's, and landing it may be in vain. An error ends Run.
	Revoked(ctx context.Context, src record.Source, lost bool) error
}

// Consumer is one member of a consumer group.
type Consumer struct {
	cfg    Config
	events Events

	// Set by Run.
	client   *kgo.Client
	handler  Handler
	ctx      context.Context // ends when the Consumer is told to stop, or has failed
	cancel   context.CancelFunc
	detached context.Context // never ends; what the handler's calls derive from
	started  chan struct{}   // closed when client is set

	share    atomic.Int64 // bytes that one partition may hold
	buffered atomic.Int64 // bytes that all partitions hold
	ratio    ratio
	room     chan struct{}

	mu         sync.Mutex
	partitions map[partitionKey]*partition
	committed  map[partitionKey]Hint
	renew      map[string]time.Time // topics to subscribe to afresh, and from when on
	renewed    map[string]time.Time // when that was done last
	missing    map[string]bool
	draining   bool
	err        error // why Run ends, if not because it was told to
}

type partitionKey struct {
	topic     string
	partition int32
}

// Open checks the configuration, and that a broker can be reached, lets us in, and knows topic ids. Topics that do
// not exist yet are told to the events. No group is joined before Run.
//
// Errors are ErrUnreachable or ErrRefused, or a fault of the configuration.
func Open(ctx context.Context, cfg Config, events Events) (*Consumer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	defer cl.Close()
	c := &Consumer{
		cfg:        cfg,
		events:     events.withDefaults(),
		ratio:      ratio{value: 4}, // what JSON gives at the least
		room:       make(chan struct{}, 1),
		started:    make(chan struct{}),
		partitions: make(map[partitionKey]*partition),
		committed:  make(map[partitionKey]Hint),
		renew:      make(map[string]time.Time),
		renewed:    make(map[string]time.Time),
		missing:    make(map[string]bool),
	}
	if err := cfg.greet(ctx, cl); err != nil {
		return nil, err
	}
	topics, err := cfg.topics(ctx, cl, cfg.Topics)
	if err != nil {
		return nil, err
	}
	c.noteMissing(topics)
	return c, nil
}

// leaveTimeout bounds how long the Consumer waits for the group to let it go when its work is done.
const leaveTimeout = 5 * time.Second

// Run consumes until ctx ends, and returns nil then; or until something fails for good, and returns why. In both
// cases every source has been taken from the handler, with up to Config.DrainTimeout to land what it has, and the
// group has been left. Run may be called once.
func (c *Consumer) Run(ctx context.Context, handler Handler) error {
	opts, err := c.cfg.options()
	if err != nil {
		return err
	}
	c.handler = handler
	c.detached = context.WithoutCancel(ctx)
	c.ctx, c.cancel = context.WithCancel(ctx)
	defer c.cancel()

	clientCtx, cancelClient := context.WithCancel(c.detached)
	defer cancelClient()
	client, err := kgo.NewClient(append(opts,
		kgo.WithContext(clientCtx),
		kgo.ConsumerGroup(c.cfg.Group),
		kgo.ConsumeTopics(c.cfg.Topics...),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(c.cfg.SessionTimeout),
		kgo.HeartbeatInterval(min(3*time.Second, c.cfg.SessionTimeout/4)),
		kgo.RebalanceTimeout(c.cfg.RebalanceTimeout),
		kgo.DisableAutoCommit(),

		// A poll hands records over to the partitions' queues at once and lets go. Holding the group's callbacks
		// back for that moment makes sure that no record of a partition's former assignment reaches its next one.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnOffsetsFetched(c.offsetsFetched),
		kgo.AdjustFetchOffsetsFn(c.assign),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { c.revoke(m, false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { c.revoke(m, true) }),

		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), // never used: assign names an offset for every partition
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(200*time.Millisecond), // a resumed partition waits for the fetch that is under way
		kgo.FetchMaxBytes(c.cfg.FetchBytes),
		kgo.FetchMaxPartitionBytes(c.cfg.FetchBytes/4),
		kgo.MaxConcurrentFetches(3),
		kgo.MaxDecompressBatchBytes(c.cfg.MaxBatchBytes),
		kgo.BrokerMaxReadBytes(int32(min(1<<30, max(100<<20, int64(c.cfg.MaxBatchBytes))))),
		kgo.MetadataMaxAge(c.cfg.Refresh),
		kgo.MetadataMinAge(min(time.Second, c.cfg.Refresh)),
		kgo.AlwaysRetryEOF(), // the first contact was good: a broker that hangs up is restarting
		kgo.WithHooks(hooks{c}),
	)...)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	c.client = client
	c.resize(0)
	close(c.started)

	watched := make(chan struct{})
	go func() { defer close(watched); c.watch() }()
	c.poll()
	c.cancel()
	<-watched

	c.drain()
	// The group may be waiting for another member, one that was killed, and the library does not leave before its own
	// attempt to join is answered. Everything has landed: the group may as well find out by itself that we are gone.
	giveUp := time.AfterFunc(leaveTimeout, cancelClient)
	defer giveUp.Stop()
	client.CloseAllowingRebalance()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail ends Run with err. Only the first failure counts.
func (c *Consumer) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.cancel()
}

// drain takes every source from the handler while the membership, and with it the right to commit, is kept alive.
func (c *Consumer) drain() {
	c.mu.Lock()
	c.draining = true
	all := slices.Collect(maps.Values(c.partitions))
	c.mu.Unlock()
	c.stopAll(all, c.cfg.DrainTimeout, false)
}

// stopAll takes sources away, all at once, and forgets them.
func (c *Consumer) stopAll(all []*partition, limit time.Duration, lost bool) {
	ctx, cancel := context.WithTimeout(c.detached, limit)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() { p.stop(ctx, lost) })
	}
	wg.Wait()
	c.mu.Lock()
	for _, p := range all {
		key := partitionKey{p.src.Topic, p.src.Partition}
		if c.partitions[key] == p {
			delete(c.partitions, key)
		}
	}
	n := len(c.partitions)
	c.mu.Unlock()
	c.resize(n)
}

// resize shares the memory out between so many partitions.
func (c *Consumer) resize(partitions int) {
	c.share.Store(c.cfg.BufferBytes / 2 / int64(max(partitions, 1)))
}

// sizeFetches asks for so much that it fits into memory when it is decompressed, going by how well the batches of
// late were compressed.
func (c *Consumer) sizeFetches() {
	const smallest = 16 << 10
	ratio := c.ratio.load()
	fit := func(bytes, limit int64) int32 {
		return int32(min(max(int64(float64(bytes)/ratio), smallest), limit))
	}
	c.client.UpdateFetchMaxBytes(
		fit(c.cfg.BufferBytes/4, int64(c.cfg.FetchBytes)),
		fit(c.share.Load()/2, max(int64(c.cfg.FetchBytes)/4, smallest)))
}

// ratio is how many bytes of records came out of one compressed byte, lately.
type ratio struct {
	mu    sync.Mutex
	value float64
}

func (r *ratio) load() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.value
}

// add follows a rise at once and a fall slowly: to ask for too little costs a round trip, to ask for too much costs
// memory.
func (r *ratio) add(compressed, uncompressed int) {
	if compressed <= 0 {
		return
	}
	now := max(float64(uncompressed)/float64(compressed), 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if now > r.value {
		r.value = now
	} else {
		r.value += (now - r.value) / 64
	}
}

// freed gives back bytes, and wakes the poll loop if it waits for room.
func (c *Consumer) freed(bytes int64) {
	c.buffered.Add(-bytes)
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// waitForRoom blocks while more is held than may be. The shares keep ordinary records below that; very large ones, or
// ones that were compressed very well, get here. When nothing is worked off any more, the memory lies with partitions
// that are stuck, and is taken back from the fullest of them: it must not stop the others.
func (c *Consumer) waitForRoom() {
	const stuck = 200 * time.Millisecond
	for c.buffered.Load() > c.cfg.BufferBytes {
		select {
		case <-c.room:
			continue
		case <-c.ctx.Done():
			return
		case <-time.After(stuck):
		}
		var fullest *partition
		var most int64
		for _, p := range c.snapshot() {
			if n := p.queued(); n > most {
				fullest, most = p, n
			}
		}
		if fullest != nil {
			fullest.shed()
		}
	}
}

// poll moves records from the client to the partitions until the Consumer is told to stop.
func (c *Consumer) poll() {
	for c.ctx.Err() == nil {
		c.waitForRoom()
		c.sizeFetches()
		// The short wait is for the topics to renew, which must not happen between a poll and its distribution.
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		fetches := c.client.PollFetches(ctx)
		cancel()
		for _, fetch := range fetches {
			for i := range fetch.Topics {
				topic := &fetch.Topics[i]
				for j := range topic.Partitions {
					c.distribute(topic, &topic.Partitions[j])
				}
			}
		}
		c.client.AllowRebalance()
		c.renewTopics()
	}
}

const (
	// retryAfter is how long a partition that the broker refuses to give records of is left alone.
	retryAfter = 2 * time.Second
	// resubscribeAfter is the same for one that cannot be tried again without balancing the whole group.
	resubscribeAfter = time.Minute
	// renewGap is the least time between two subscriptions to the same topic. Brokers learn of a new topic one
	// after the other: to hurry would be to get the old one again.
	renewGap = 5 * time.Second
)

func (c *Consumer) distribute(topic *kgo.FetchTopic, fetched *kgo.FetchPartition) {
	c.mu.Lock()
	p := c.partitions[partitionKey{topic.Topic, fetched.Partition}]
	c.mu.Unlock()

	var group *kgo.ErrGroupSession
	switch err := fetched.Err; {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrClientClosed):
		return
	case errors.As(err, &group):
		c.groupFailed(group.Err)
		return
	case errors.Is(err, kerr.UnknownTopicID):
		// The client never goes over to another topic of the same name by itself.
		c.renewTopic(topic.Topic)
		return
	case err != nil && p == nil:
		c.events.FetchFailed(topic.Topic, fetched.Partition, c.cfg.explain(err))
		if topic.Topic != "" && fetched.Partition >= 0 {
			// The partition is ours, and did not get as far as being read. The only way to try again.
			c.renewTopicAfter(topic.Topic, resubscribeAfter)
		}
		return
	case p == nil:
		return // was taken away since
	}

	if id := topicID(topic.TopicID); id != p.src.ID {
		c.renewTopic(topic.Topic)
		return
	}
	if len(fetched.Records) > 0 {
		p.push(fetched.Records, fetched.HighWatermark)
	}
	if fetched.Err != nil {
		c.fetchFailed(p, fetched.Err)
	}
}

// fetchFailed decides how to go on with a partition that the broker gave an error for. Errors that a retry cures have
// been retried by the client and do not come here.
func (c *Consumer) fetchFailed(p *partition, err error) {
	var loss *kgo.ErrDataLoss
	var large *kgo.ErrDecompressTooLarge
	switch {
	case errors.As(err, &loss):
		p.stopReading(fmt.Errorf("the log was truncated to offset %d after offset %d had been read", loss.ResetTo, loss.ConsumedTo-1))
		return
	case errors.As(err, &large):
		p.stopReading(fmt.Errorf("the batch of records at offset %d decompresses to more than %d bytes, and can neither be read nor be left out: raise the limit", large.Offset, c.cfg.MaxBatchBytes))
		return
	}
	first := false
	p.whileOurs(func() { first = p.hold(heldError) })
	if !first {
		return
	}
	if errors.Is(err, kerr.OffsetOutOfRange) {
		go c.outOfRange(p)
		return
	}
	c.events.FetchFailed(p.src.Topic, p.src.Partition, c.cfg.explain(err))
	time.AfterFunc(retryAfter, func() { p.whileOurs(func() { p.unhold(heldError) }) })
}

// outOfRange finds out why an offset that is wanted is not in the log.
func (c *Consumer) outOfRange(p *partition) {
	start, end, err := c.logBounds(p.ctx, p.src)
	p.mu.Lock()
	next := p.next
	p.mu.Unlock()
	topics, topicErr := c.cfg.topics(p.ctx, c.client, []string{p.src.Topic})
	switch err := errors.Join(err, topicErr); {
	case p.ctx.Err() != nil:
	case err == nil && topics[p.src.Topic].id != p.src.ID:
		c.renewTopic(p.src.Topic) // the bounds are another topic's
	case err != nil:
		c.events.FetchFailed(p.src.Topic, p.src.Partition, c.cfg.explain(err))
		time.AfterFunc(retryAfter, func() { p.whileOurs(func() { p.unhold(heldError) }) })
	case next < start:
		p.seek(start)
	case next > end:
		p.stopReading(fmt.Errorf("offset %d is wanted next, and the log of the same topic ends at %d: it was truncated", next, end))
	default:
		// The broker said that the offset is not in the log, and now it is: the log was truncated, and has grown
		// since. To go on would be to take other records for those that were read before.
		p.stopReading(fmt.Errorf("offset %d was not in the log and now is (it holds %d to %d): it was truncated and written anew", next, start, end))
	}
}

// logBounds returns the first offset of a partition's log, and the one after its last.
func (c *Consumer) logBounds(ctx context.Context, src record.Source) (start, end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	const earliest, latest = -2, -1 // timestamps with a meaning of their own in ListOffsets
	ask := func(timestamp int64) (int64, error) {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = src.Topic
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp = src.Partition, timestamp
		t.Partitions = append(t.Partitions, part)
		req.Topics = append(req.Topics, t)
		resp, err := req.RequestWith(ctx, c.client)
		if err != nil {
			return 0, err
		}
		for _, t := range resp.Topics {
			for _, part := range t.Partitions {
				if part.Partition == src.Partition {
					return part.Offset, kerr.ErrorForCode(part.ErrorCode)
				}
			}
		}
		return 0, fmt.Errorf("the broker left partition %d out of its answer", src.Partition)
	}
	if start, err = ask(earliest); err != nil {
		return 0, 0, err
	}
	end, err = ask(latest)
	return start, end, err
}

// groupFailed ends Run for what joining again cannot cure.
func (c *Consumer) groupFailed(err error) {
	if hopeless(err) {
		c.fail(c.cfg.explain(err))
		return
	}
	c.events.GroupFailed(c.cfg.explain(err))
}

// offsetsFetched keeps what the group's committed offsets say, for assign, which is called right after it.
func (c *Consumer) offsetsFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.committed)
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == 0 && p.Metadata != nil {
					c.committed[partitionKey{t.Topic, p.Partition}] = parseHint(p.Offset, *p.Metadata)
				}
			}
		}
	}
	return nil
}

// assign asks the handler where to begin. ctx ends when the group takes the partitions away again; the library then
// calls assign anew, with those of them that are still ours.
//
// Nothing is fetched for a partition before assign has returned its offset, so there is no seek that could come too
// late for a fetch.
func (c *Consumer) assign(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	<-c.started
	names := slices.Sorted(maps.Keys(offsets))
	if len(names) == 0 {
		return offsets, nil
	}
	topics, err := c.waitForTopics(ctx, names)
	if err != nil {
		return nil, err
	}

	var mu sync.Mutex // guards the maps in starts
	starts := make(map[string]map[int32]kgo.Offset, len(offsets))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, name := range names {
		if topics[name].id == "" {
			// Deleted since the group was balanced. To subscribe afresh is how the client gets the next topic of
			// that name.
			c.renewTopicAfter(name, retryAfter)
			continue
		}
		begun := make(map[int32]kgo.Offset, len(offsets[name]))
		starts[name] = begun
		for number := range offsets[name] {
			src := record.Source{Topic: name, ID: topics[name].id, Partition: number}
			group.Go(func() error {
				start, err := c.begin(groupCtx, src)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				begun[number] = kgo.NewOffset().At(start).WithEpoch(-1)
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return starts, nil
}

// begin asks the handler where one source begins, and makes its queue.
func (c *Consumer) begin(ctx context.Context, src record.Source) (int64, error) {
	key := partitionKey{src.Topic, src.Partition}
	c.mu.Lock()
	former := c.partitions[key]
	hint := c.committed[key]
	c.mu.Unlock()
	if former != nil {
		// Assigned anew without having been revoked: the topic was subscribed to afresh, or the assignment was
		// cut short by the next one.
		c.stopAll([]*partition{former}, c.cfg.RebalanceTimeout*2/3, false)
	}
	if hint.TopicID != src.ID {
		hint = Hint{}
	}
	if c.ctx.Err() != nil {
		return 0, c.ctx.Err()
	}
	start, err := c.handler.Assigned(ctx, src, hint)
	if err != nil {
		if ctx.Err() == nil {
			c.fail(fmt.Errorf("topic %s partition %d: %w", src.Topic, src.Partition, err))
		}
		return 0, err
	}
	p := c.newPartition(c.detached, src, start)
	c.mu.Lock()
	draining := c.draining
	if !draining {
		c.partitions[key] = p
	}
	n := len(c.partitions)
	c.mu.Unlock()
	if draining {
		stopCtx, cancel := context.WithTimeout(c.detached, c.cfg.DrainTimeout)
		defer cancel()
		p.stop(stopCtx, false)
		return 0, context.Canceled
	}
	c.resize(n)
	c.events.Assigned(src, start)
	return start, nil
}

// waitForTopics asks for the topics' ids until a broker answers. To give up would be to lose all partitions that are
// being worked on; ctx ends when the group takes these ones away.
func (c *Consumer) waitForTopics(ctx context.Context, names []string) (map[string]topicInfo, error) {
	for {
		topics, err := c.cfg.topics(ctx, c.client, names)
		if err == nil {
			return topics, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.events.FetchFailed("", -1, err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.ctx.Done():
			return nil, c.ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// revoke takes partitions from the handler. Polls wait for it; what the other partitions have queued is worked off
// meanwhile.
func (c *Consumer) revoke(taken map[string][]int32, lost bool) {
	var all []*partition
	c.mu.Lock()
	for topic, numbers := range taken {
		for _, number := range numbers {
			if p := c.partitions[partitionKey{topic, number}]; p != nil {
				all = append(all, p)
			}
		}
	}
	c.mu.Unlock()
	if len(all) > 0 {
		c.stopAll(all, c.cfg.RebalanceTimeout*2/3, lost)
	}
}

// renewTopic subscribes to a topic afresh, soon.
func (c *Consumer) renewTopic(topic string) { c.renewTopicAfter(topic, 0) }

func (c *Consumer) renewTopicAfter(topic string, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.renew[topic]; known || c.draining {
		return
	}
	due := time.Now().Add(wait)
	if again := c.renewed[topic].Add(renewGap); again.After(due) {
		due = again
	}
	c.renew[topic] = due
}

// renewTopics makes the client forget the topics that are due, and learn them again under their present ids. The
// group revokes or assigns anew what is ours of them.
func (c *Consumer) renewTopics() {
	c.mu.Lock()
	now := time.Now()
	var due []string
	replaced := make(map[string]string)
	for topic, when := range c.renew {
		if !when.After(now) {
			due = append(due, topic)
			delete(c.renew, topic)
			c.renewed[topic] = now
		}
	}
	for key, p := range c.partitions {
		if slices.Contains(due, key.topic) {
			replaced[key.topic] = p.src.ID
		}
	}
	c.mu.Unlock()
	if len(due) == 0 {
		return
	}
	for topic, id := range replaced {
		c.events.TopicReplaced(topic, id)
	}
	c.client.PurgeTopicsFromClient(due...)
	c.client.AddConsumeTopics(due...)
}

// watch looks from time to time which topics there are, and how far behind we are.
func (c *Consumer) watch() {
	tick := time.NewTicker(c.cfg.Refresh)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		topics, err := c.cfg.topics(c.ctx, c.client, c.cfg.Topics)
		if err != nil {
			if c.ctx.Err() == nil {
				c.events.FetchFailed("", -1, err)
			}
			continue
		}
		c.noteMissing(topics)
		for _, p := range c.snapshot() {
			if id := topics[p.src.Topic].id; id != p.src.ID {
				// A paused partition is not fetched, and would not hear of it otherwise.
				c.renewTopic(p.src.Topic)
				continue
			}
			if _, end, err := c.logBounds(c.ctx, p.src); err == nil {
				p.mu.Lock()
				p.high = max(p.high, end)
				p.mu.Unlock()
			}
		}
		for _, l := range c.Lags() {
			c.events.Lag(l.Source, l.High-l.Next)
		}
	}
}

func (c *Consumer) snapshot() []*partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.partitions))
}

// Lag is how far the reading of one source is.
type Lag struct {
	record.Source
	Next int64 // the offset that is read next
	High int64 // the high watermark: the offset after the last that can be read, as last heard
}

// Lags tells how far each assigned source is. What is read and not yet worked off does not count as lag.
func (c *Consumer) Lags() []Lag {
	all := c.snapshot()
	lags := make([]Lag, 0, len(all))
	for _, p := range all {
		p.mu.Lock()
		lags = append(lags, Lag{p.src, p.next, max(p.high, p.next)})
		p.mu.Unlock()
	}
	return lags
}

// noteMissing tells which topics went missing, and which turned up.
func (c *Consumer) noteMissing(topics map[string]topicInfo) {
	for _, name := range c.cfg.Topics {
		gone := topics[name].id == ""
		c.mu.Lock()
		was := c.missing[name]
		c.missing[name] = gone
		c.mu.Unlock()
		if gone && !was {
			c.events.TopicMissing(name)
		} else if was && !gone {
			c.events.TopicFound(name)
		}
	}
}

// Commit writes down in Kafka that the segment [first, next) of src has landed. It is a hint for monitors and for
// whoever has the partition next: MUST NOT be called before the manifest of that segment exists; a failure loses
// nothing. It may be called until Revoked returns.
func (c *Consumer) Commit(ctx context.Context, src record.Source, first, next int64) error {
	c.mu.Lock()
	p := c.partitions[partitionKey{src.Topic, src.Partition}]
	c.mu.Unlock()
	if p == nil || p.src != src {
		return fmt.Errorf("topic %s partition %d is not assigned: nothing committed", src.Topic, src.Partition)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	metadata := hintMetadata(src.ID, first)
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				req.Topics[i].Partitions[j].Metadata = &metadata
			}
		}
		return nil
	})
	var failed error
	c.client.CommitOffsetsSync(ctx,
		map[string]map[int32]kgo.EpochOffset{src.Topic: {src.Partition: {Epoch: -1, Offset: next}}},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if failed = err; failed != nil {
				return
			}
			for _, t := range resp.Topics {
				for _, part := range t.Partitions {
					failed = errors.Join(failed, kerr.ErrorForCode(part.ErrorCode))
				}
			}
		})
	if failed != nil {
		failed = fmt.Errorf("committing offset %d of topic %s partition %d: %w", next, src.Topic, src.Partition, c.cfg.explain(failed))
		c.events.CommitFailed(src, failed)
	}
	return failed
}

// hooks hears from the client library what it retries by itself.
type hooks struct{ c *Consumer }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h hooks) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil && h.c.ctx.Err() == nil {
		h.c.events.BrokerFailed(net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port))), h.c.cfg.explain(err))
	}
}

// OnFetchBatchRead implements kgo.HookFetchBatchRead.
func (h hooks) OnFetchBatchRead(_ kgo.BrokerMetadata, _ string, _ int32, m kgo.FetchBatchMetrics) {
	h.c.ratio.add(m.CompressedBytes, m.UncompressedBytes)
}
