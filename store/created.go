package store

import "context"

// CreatedLog returns the log that CreateLog made under this idempotency key and
// request hash, or nil if it made none. Ask it before placing again: the first
// create may have taken the very space that placement would look for.
//
// Errors: ErrInvalid; ErrIdempotencyMismatch; ErrUnavailable.
func (s *Store) CreatedLog(ctx context.Context, key, hash string) (*Log, error) {
	if err := checkIdempotencyKey(key); err != nil || key == "" {
		return nil, err
	}
	ctx, cancel := s.call(ctx)
	defer cancel()
	es, _, err := s.read(ctx, prefixIdem+key)
	if err != nil {
		return nil, err
	}
	return replayLog(es[0], CreateLogRequest{RequestHash: hash}.hash(ctx))
}

// replayLog returns the log as it was made. The answer is of the same
// transaction and so has the log's revision.
func replayLog(e entry, hash string) (*Log, error) {
	log, err := replay[Log](e, hash)
	if log != nil {
		log.ModRevision = e.mod
	}
	return log, err
}
