package verify

import (
	"context"
	"iter"
	"sync"
)

type outcome[R any] struct {
	value R
	err   error
}

// ordered does work on what in yields, on several goroutines at a time, and yields the outcomes in the order of in. It
// holds a few outcomes per worker, however many there are.
func ordered[T, R any](ctx context.Context, workers int, in iter.Seq2[T, error], work func(context.Context, T) (R, error)) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		type job struct {
			in  T
			out chan outcome[R]
		}
		jobs := make(chan job)
		queue := make(chan chan outcome[R], 4*workers)
		var wait sync.WaitGroup
		for range workers {
			wait.Go(func() {
				for j := range jobs {
					value, err := work(ctx, j.in)
					j.out <- outcome[R]{value, err}
				}
			})
		}
		wait.Go(func() {
			defer close(queue)
			defer close(jobs)
			for v, err := range in {
				out := make(chan outcome[R], 1)
				select {
				case queue <- out:
				case <-ctx.Done():
					return
				}
				if err != nil {
					out <- outcome[R]{err: err}
					return
				}
				select {
				case jobs <- job{v, out}:
				case <-ctx.Done():
					out <- outcome[R]{err: ctx.Err()}
					return
				}
			}
		})
		defer wait.Wait()
		defer func() {
			for range queue { // let the producer end
			}
		}()
		defer cancel()
		for out := range queue {
			o := <-out
			if !yield(o.value, o.err) || o.err != nil {
				return
			}
		}
	}
}
