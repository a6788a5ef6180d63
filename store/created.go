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
	return replay[Log](es[0], CreateLogRequest{RequestHash: hash}.hash())
}
