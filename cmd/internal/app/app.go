// Package app is the one place that wires the stages: sources to the pipeline, the pipeline to the landing zone, and
// what happens to logs and metrics. The commands call it and know nothing of the stages.
package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tasterhq/taster/cmd/internal/app/pipeline"
	"github.com/tasterhq/taster/cmd/internal/app/states"
	"github.com/tasterhq/taster/cmd/internal/config"
	"github.com/tasterhq/taster/detect/policy"
	"github.com/tasterhq/taster/schema/contract"
	"github.com/tasterhq/taster/sink/audit"
	"github.com/tasterhq/taster/sink/envelope"
	"github.com/tasterhq/taster/sink/landing"
	"github.com/tasterhq/taster/sink/storage"
)

// memoryLimit bounds the messages between sources and the landing zone, and sourceLimit those that a consumer has
// fetched ahead. What segments cost besides (the detectors' tables, a Parquet file being built) does not grow with
// them; docs/PERFORMANCE.md has what it comes to.
const (
	memoryLimit = 96 << 20
	sourceLimit = 16 << 20
)

// App is a configured taster with an open landing zone.
type App struct {
	config  *config.Config
	log     *slog.Logger
	observe *observer
	store   storage.Store
	keys    *envelope.Keyring
	zone    *landing.Zone
	chain   *audit.Process
	commits *audit.Commits
	foreign *foreign // opens encrypted inputs; nil: by the configuration's keys
	command string

	memories []*states.Cache // of the topics that are judged

	accelerator *Accelerator // nil until something is scored

	checkpoints *audit.Checkpoints
	signed      func() // ends the regular checkpoints

	keyCalls atomic.Int64 // of key services
}

// Open opens the landing zone and the keys, and enters the start of command in the audit log. Close ends it.
func Open(ctx context.Context, c *config.Config, log *slog.Logger, command string) (*App, error) {
	a := &App{config: c, log: log, observe: newObserver(log), command: command}
	keys, err := openKeys(ctx, c, envelope.Limits{
		Waiting: a.observe.keysAway,
		Called: func(op, _ string, took time.Duration, err error) {
			a.keyCalls.Add(1)
			a.observe.keyCalled(op, took, err)
		},
	})
	if err != nil {
		return nil, err
	}
	store, err := storage.Open(ctx, c.Landing.URL)
	if err != nil {
		return nil, err
	}
	a.store, a.keys = store, keys
	a.checkpoints = audit.OpenCheckpoints(store, vault{keys}, time.Now)
	a.chain = audit.OpenProcess(a.checkpoints.Store(), audit.NewProcess(time.Now()), time.Now)
	a.commits = audit.OpenCommits(a.checkpoints.Store())
	a.zone, err = landing.Open(ctx, landing.Options{
		Store: store, Keys: keys, Process: a.chain.Name(), External: c.Landing.External,
		Retrying: func(manifest string, attempt int, err error) {
			a.observe.storeFailed(manifest, attempt, err)
		},
	})
	if err != nil {
		return nil, err
	}
	digest := c.Digest()
	err = a.chain.Append(ctx, audit.Entry{
		Event: audit.Start, Subject: command, Action: "run", Result: "ok",
		Details: map[string]string{"configuration": hex.EncodeToString(digest[:])},
	})
	for _, one := range c.Contracts {
		err = errors.Join(err, a.chain.Append(ctx, audit.Entry{
			Event: audit.Contract, Subject: one.Topic, Action: "load", Result: "ok",
			Details: map[string]string{"digest": hex.EncodeToString(one.Digest[:])},
		}))
	}
	if err != nil {
		return nil, err
	}
	a.signed = keepCheckpoints(context.WithoutCancel(ctx), a.checkpoints, log)
	return a, nil
}

// Close enters the end of the command in the audit log, and signs it.
func (a *App) Close(ctx context.Context, failed error) error {
	result := "ok"
	if failed != nil {
		result = "failed"
	}
	for _, m := range a.memories {
		m.Close()
	}
	a.accelerator.Close()
	a.signed()
	defer checkpoint(ctx, a.checkpoints, a.log)
	return a.chain.Append(context.WithoutCancel(ctx), audit.Entry{Event: audit.Stop, Subject: a.command, Action: "run", Result: result})
}

// topic makes what the pipeline needs to judge one contract's records.
func (a *App) topic(ctx context.Context, c *contract.Contract) (pipeline.Topic, error) {
	if err := a.accelerate(); err != nil {
		return pipeline.Topic{}, err
	}
	ref, err := a.reference(ctx, c)
	if err != nil {
		return pipeline.Topic{}, err
	}
	scorer, err := policy.New(c, ref, policy.Options{Detectors: a.accelerator.Detectors()})
	if err != nil {
		return pipeline.Topic{}, fmt.Errorf("%s: %w", c.Path, err)
	}
	return pipeline.Topic{Contract: c, Scorer: tortured(scorer), Memory: a.memory(c)}, nil
}

// memory finds what one contract's records are judged by beside themselves.
func (a *App) memory(c *contract.Contract) pipeline.Memory {
	m := states.New(a.zone, c.Topic, states.Options{
		Contract:   hex.EncodeToString(c.Digest[:]),
		Unreadable: func(name string, own bool, err error) { a.observe.stateLost(c.Topic, name, own, err) },
		Away:       func(err error) { a.observe.othersAway(c.Topic, err) },
		Left:       func(known, left int) { a.observe.othersKnown(c.Topic, known, left) },
	})
	a.memories = append(a.memories, m)
	return m
}

func (a *App) limits() pipeline.Limits {
	s := a.config.Landing.Segment
	return pipeline.Limits{Records: s.Records, Bytes: s.Bytes, Age: s.Age, Memory: memoryLimit}
}

// ErrNotFound says that an input, or something in the landing zone, is not there.
var ErrNotFound = errors.New("not found")

// ErrMissing says that the configuration leaves out what a command needs.
var ErrMissing = errors.New("missing")

// Contract returns the contract for a topic.
func (a *App) Contract(topic string) (*contract.Contract, error) { return a.config.Contract(topic) }

// ofFiles returns the contract as it holds for files: their records have no key and no headers, so a provider that
// would stand there is not known, and not held against them.
func ofFiles(c *contract.Contract) *contract.Contract {
	if p := c.Roles.Provider; !p.Key && p.Header == "" {
		return c
	}
	known := *c
	known.Roles.Provider = contract.Provider{}
	return &known
}
