package detect

import (
	"sync"
	"sync/atomic"
)

// Each calls f once for each of 0 … n−1, from up to so many goroutines; whichever is free takes the next, or the next few
// where there are many. It returns when all are done.
func Each(n, workers int, f func(i int)) {
	const most, turns = 256, 16 // to take at once, and how often each goroutine shall come back for more
	few := max(1, min(most, n/(turns*max(1, workers))))
	Rows(n, few, workers, func(first, end int) {
		for i := first; i < end; i++ {
			f(i)
		}
	})
}

// Rows is Chunks for a function that needs no working memory.
func Rows(n, rows, workers int, f func(first, end int)) {
	Chunks(n, rows, workers, func() func(first, end int) { return f })
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
