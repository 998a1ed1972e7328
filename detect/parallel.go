package detect

import (
	"sync"
	"sync/atomic"
)

// Each calls f once for each of 0 … n−1, from up to so many goroutines; whichever is free takes the next. It returns when
// all are done.
func Each(n, workers int, f func(i int)) {
	Chunks(n, 1, workers, func() func(first, end int) { return func(first, _ int) { f(first) } })
}

// Chunks cuts [0, n) into pieces of so many rows, the last one shorter, and has them worked on by up to so many
// goroutines; whichever is free takes the next. Each goroutine calls worker once, for a function with working memory of
// its own. It returns when all are done.
func Chunks(n, rows, workers int, worker func() func(first, end int)) {
	var next atomic.Int64
	run := func() {
		f := worker()
		for {
			first := int(next.Add(int64(rows))) - rows
			if first >= n {
				return
			}
			f(first, min(first+rows, n))
		}
	}
	workers = min(workers, (n+rows-1)/rows)
	if workers <= 1 {
		if n > 0 {
			run()
		}
		return
	}
	var wait sync.WaitGroup
	for range workers {
		wait.Go(run)
	}
	wait.Wait()
}
