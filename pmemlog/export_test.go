package pmemlog

import "runtime"

// WaitForSyncers returns when n callers wait for a sync that has not begun.
func WaitForSyncers(p *Pool, n int) {
	for {
		p.dev.mu.Lock()
		waiting := p.dev.waiting
		p.dev.mu.Unlock()
		if waiting >= n {
			return
		}
		runtime.Gosched()
	}
}
