package envelope

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The first wait after a failed call, and the longest. Between them waits double, and each is shortened by up to half
// at random, so that many instances do not return to a service that was away at one moment.
const (
	firstWait = 100 * time.Millisecond
	maxWait   = 30 * time.Second
)

// caller calls a key service until it answers.
type caller struct {
	timeout  time.Duration
	patience time.Duration
	waiting  func(masterKeyID string, attempt int, wait time.Duration, err error)
	called   func(op, masterKeyID string, took time.Duration, err error)
	sleep    func(ctx context.Context, d time.Duration) error
	now      func() time.Time
}

func newCaller(l Limits) caller {
	c := caller{timeout: l.Timeout, patience: l.Patience, waiting: l.Waiting, called: l.Called, sleep: sleep, now: time.Now}
	if c.timeout <= 0 {
		c.timeout = 15 * time.Second
	}
	if c.patience > 0 {
		c.timeout = min(c.timeout, c.patience)
	}
	return c
}

// call repeats a call that fails with ErrUnavailable or takes too long. Other errors are final. When the context ends
// or patience does, the error is ErrUnavailable and what kept the service away, and the context's.
func (c *caller) call(ctx context.Context, op, masterKeyID string, do func(context.Context) error) error {
	began := c.now()
	for attempt := 1; ; attempt++ {
		err := c.one(ctx, op, masterKeyID, do)
		if err == nil || !errors.Is(err, ErrUnavailable) {
			return err
		}
		wait := backoff(attempt)
		var asked *Unavailable
		if errors.As(err, &asked) && asked.After > wait {
			wait = min(asked.After, 10*maxWait)
		}
		if c.patience > 0 && c.now().Sub(began)+wait > c.patience {
			return fmt.Errorf("master key %q, after %d attempts: %w", masterKeyID, attempt, err)
		}
		if ctx.Err() == nil && c.waiting != nil {
			c.waiting(masterKeyID, attempt, wait, err)
		}
		if ended := c.sleep(ctx, wait); ended != nil {
			return fmt.Errorf("master key %q, after %d attempts: %w; %w", masterKeyID, attempt, err, ended)
		}
	}
}

// one makes one call with a deadline of its own.
func (c *caller) one(ctx context.Context, op, masterKeyID string, do func(context.Context) error) error {
	began := c.now()
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := do(limited)
	if err != nil && limited.Err() != nil && !errors.Is(err, ErrUnavailable) {
		err = &Unavailable{Err: fmt.Errorf("no answer within %s", c.timeout)}
		if ctx.Err() != nil {
			err = &Unavailable{Err: context.Cause(ctx)}
		}
	}
	if c.called != nil {
		c.called(op, masterKeyID, c.now().Sub(began), err)
	}
	return err
}

// backoff returns how long to wait after the attempt of that number, counted from 1.
func backoff(attempt int) time.Duration {
	d := maxWait
	if attempt < 16 {
		d = min(d, firstWait<<(attempt-1))
	}
	return d - rand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
