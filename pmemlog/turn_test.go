package pmemlog

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestTurnsComeInOrder: whoever asks first is first, whether he holds the lock that
// guards the turns or not, and nobody is in twice.
func TestTurnsComeInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var op turn
		op.init(&mu)
		var had, want []int
		op.Lock()
		for i := range 20 {
			want = append(want, i)
			if i%2 == 0 {
				go func() {
					op.Lock()
					defer op.Unlock()
					had = append(had, i) // a race, were two in at once
				}()
			} else {
				go func() {
					mu.Lock()
					defer mu.Unlock()
					op.take()
					had = append(had, i)
					op.end()
				}()
			}
			synctest.Wait() // until it waits
		}
		if len(had) != 0 {
			t.Errorf("%v were in while another was", had)
		}
		op.Unlock()
		synctest.Wait()
		if !slices.Equal(had, want) {
			t.Errorf("they were in as %v, must be %v", had, want)
		}
	})
}
