package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tasterhq/taster/cmd/internal/app/pipeline"
	"github.com/tasterhq/taster/ingest/files"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/reuse"
	"github.com/tasterhq/taster/sink/killpoint"
	"github.com/tasterhq/taster/sink/landing"
)

// Backfilled is the outcome of Backfill; its JSON form is public.
type Backfilled struct {
	Read             int64    `json:"read"`
	Accepted         int64    `json:"accepted"`
	Quarantined      int64    `json:"quarantined"`
	Rejected         int64    `json:"rejected"`
	RecordsPerSecond float64  `json:"records_per_second"`
	Landing          string   `json:"landing"`
	AlreadyLanded    []string `json:"already_landed"` // inputs of which nothing was left to land
}

// Backfill lands files as records of a contract's topic, one file after the other. A file is known by its bytes:
// what has landed of it before is not landed again. progress is told how many records were taken in.
func (a *App) Backfill(ctx context.Context, c *contract.Contract, inputs []string, progress func(n int64)) (*Backfilled, error) {
	result := &Backfilled{Landing: a.config.Landing.URL, AlreadyLanded: []string{}}
	c = ofFiles(c)
	inputs, err := files.Expand(ctx, inputs, Buckets{})
	if err != nil {
		return nil, err
	}
	topic, err := a.topic(ctx, c)
	if err != nil {
		return nil, err
	}
	feed := &fileFeed{rewound: map[record.Source]int64{}, tidier: newTidier(a.zone, a.log)}
	var mu sync.Mutex
	observe := func(event pipeline.Event) {
		a.observe.pipeline(event)
		if e, ok := event.(pipeline.Retrying); ok && e.Step == "commit" {
			feed.tidier.failed(e.Source)
		}
		if landed, ok := event.(pipeline.Landed); ok {
			mu.Lock()
			defer mu.Unlock()
			result.Accepted += int64(landed.Verdicts[finding.Accepted])
			result.Quarantined += int64(landed.Verdicts[finding.Quarantined])
			result.Rejected += int64(landed.Verdicts[finding.Rejected])
		}
	}
	p := pipeline.New(map[string]pipeline.Topic{c.Topic: topic}, a.zone, a.commits, nil, feed, a.limits(), observe)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-p.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	start := time.Now()
	for _, input := range inputs {
		read, err := a.backfillFile(ctx, c, p, feed, input, progress)
		result.Read += read
		if err != nil {
			return result, err
		}
		if read == 0 {
			result.AlreadyLanded = append(result.AlreadyLanded, input)
		}
	}
	if seconds := time.Since(start).Seconds(); seconds > 0 {
		result.RecordsPerSecond = float64(result.Read) / seconds
	}
	return result, nil
}

// backfillFile lands what has not landed yet of one file, and returns how many records that were. When the file
// turns out to be broken, what was read before is landed all the same.
func (a *App) backfillFile(ctx context.Context, c *contract.Contract, p *pipeline.Pipeline, feed *fileFeed, input string, progress func(int64)) (int64, error) {
	var total int64
	for {
		read, next, err := a.feedFile(ctx, c, p, feed, input, progress)
		total += read
		if err != nil || next < 0 {
			return total, err
		}
		// Another process works on the same file and was first: go on behind it.
	}
}

// feedFile feeds a file from where its landing ends. next is -1, or where to go on after another writer's commit.
func (a *App) feedFile(ctx context.Context, c *contract.Contract, p *pipeline.Pipeline, feed *fileFeed, input string, progress func(int64)) (read, next int64, err error) {
	f, err := files.Open(ctx, input, c, files.Access{Decrypt: a.decrypt, Remote: Buckets{}})
	if err != nil {
		return 0, -1, err
	}
	defer f.Close()
	src := f.Source()
	head, err := a.zone.Head(ctx, src, nil)
	if err != nil {
		return 0, -1, err
	}
	killpoint.Reach("file_opened")
	if err := p.Open(src, head); err != nil {
		return 0, -1, err
	}
	feed.tidier.taken(head)
	defer feed.tidier.given(ctx, src)
	defer func() { _ = p.Abandon(src) }() // after Drain there is nothing left to abandon
	if err := f.Skip(head.Next()); err != nil {
		return 0, -1, err
	}
	killpoint.Reach("file_resumed")
	read, err = feedMessages(ctx, p, src, f, func() bool { return feed.rewoundTo(src) >= 0 }, progress)
	if ctx.Err() != nil {
		return read, -1, context.Cause(ctx)
	}
	killpoint.Reach("file_fed")
	if drained := p.Drain(ctx, src); drained != nil && err == nil {
		if cause := context.Cause(ctx); cause != nil {
			drained = cause
		}
		err = drained
	}
	killpoint.Reach("file_drained")
	return read, feed.take(src), err
}

// run is how many bytes of records are handed to the pipeline at a time.
const run = 256 << 10

// feedMessages hands a file's records over until it ends or stop says so.
func feedMessages(ctx context.Context, p *pipeline.Pipeline, src record.Source, f *files.File, stop func() bool, progress func(int64)) (int64, error) {
	var read int64
	var items []files.Item
	var messages []record.Message
	var lease *reuse.Lease // of what is in messages
	defer func() { lease.Release() }()
	flush := func() error {
		n := int64(len(messages))
		if n == 0 {
			return nil
		}
		if err := p.Leased(ctx, src, messages, messages[n-1].Offset+1, lease); err != nil {
			return err
		}
		read += n
		progress(n)
		messages = messages[:0]
		return nil
	}
	for !stop() {
		var ended error
		lease.Release()
		items, lease, ended = f.Run(items[:0], run)
		for i := range items {
			if items[i].Code == "" {
				messages = append(messages, items[i].Message)
				continue
			}
			if err := flush(); err != nil {
				return read, err
			}
			if err := p.Refuse(ctx, src, items[i].Message, items[i].Code, lease); err != nil {
				return read, err
			}
			read++
			progress(1)
		}
		if err := flush(); err != nil || ended != nil {
			if errors.Is(ended, files.ErrEnd) {
				ended = nil
			}
			return read, errors.Join(ended, err)
		}
	}
	return read, nil
}

// fileFeed remembers which files another writer works on as well.
type fileFeed struct {
	tidier  *tidier
	mu      sync.Mutex
	rewound map[record.Source]int64
}

func (f *fileFeed) Landed(ctx context.Context, src record.Source, head landing.Head) error {
	f.tidier.landed(ctx, src, head)
	return nil
}

func (f *fileFeed) Rewind(src record.Source, next int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rewound[src] = next
}

func (f *fileFeed) rewoundTo(src record.Source) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next, ok := f.rewound[src]; ok {
		return next
	}
	return -1
}

// take is rewoundTo, once.
func (f *fileFeed) take(src record.Source) int64 {
	next := f.rewoundTo(src)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.rewound, src)
	return next
}
