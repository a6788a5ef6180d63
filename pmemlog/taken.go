package pmemlog

import "fmt"

// TakenError says that a superblock on the medium is not this pool's: another
// process has opened the pool since, or has made a new one in its place. The lock
// keeps that from happening, but for a device with two nodes. It is ErrPoisoned:
// what the other writes can't be told from one's own.
type TakenError struct {
	Found, Own Identity
}

// Error says what was found and what to do.
func (e *TakenError) Error() string {
	return fmt.Sprintf("pmemlog: pool %s has been opened or made anew by another process, which has written a superblock of pool %s, incarnation %d: nothing more is written; stop one of the two, see that all that use the device do so by the same node, and open the pool anew",
		e.Own.Pool, e.Found.Pool, e.Found.Incarnation)
}

// Unwrap returns ErrPoisoned.
func (e *TakenError) Unwrap() error { return ErrPoisoned }

// own returns why this pool must not be written: it has failed, or another has
// taken it over, which fails it. Superblocks that can't be read tell nothing; a
// scrub sees to them.
func (p *Pool) own() error {
	if err := p.dev.failure(); err != nil {
		return err
	}
	found, _, err := readSuperblock(p.dev.medium, &scratch{})
	if err != nil {
		return nil //nolint:nilerr // damage, which is not another's doing
	}
	p.mu.Lock()
	own := p.newest // rule: looked at behind the read, which saw no later one of this pool's
	p.mu.Unlock()
	if found.taken(&own) {
		return p.dev.fail(&TakenError{Found: found.identity(), Own: own.identity()})
	}
	return nil
}

// taken says whether a superblock can't be from who wrote own last.
func (s *superblock) taken(own *superblock) bool {
	return s.pool != own.pool || s.generation > own.generation ||
		s.generation == own.generation && *s != *own // what both have written upon the same
}
