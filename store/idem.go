package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// idemLease is the lease under which answers are kept.
func (s *Store) idemLease(ctx context.Context) (clientv3.LeaseID, error) {
	return s.shared(ctx, &s.idem, s.opts.IdempotencyTTL)
}

// requestHash tells a repetition from another request, or another caller's,
// under the same key.
func requestHash(ctx context.Context, action string, request any) string {
	b, err := json.Marshal(request)
	if err != nil {
		panic(fmt.Sprintf("store: hash %T: %v", request, err))
	}
	sum := sha256.Sum256(append([]byte(action+"\n"+callerName(ctx)+"\n"), b...))
	return hex.EncodeToString(sum[:])
}

// replay returns the answer given under the key, if there is one; it is an
// error if that was another request's.
func replay[T any](e entry, hash string) (*T, error) {
	if !e.exists() {
		return nil, nil
	}
	rec, err := decode[idemRecord](e.key, e.value)
	if err != nil {
		return nil, err
	}
	if rec.Hash != hash {
		return nil, fmt.Errorf("%w: use a new key for a new request", ErrIdempotencyMismatch)
	}
	var answer T
	if err := json.Unmarshal(rec.Answer, &answer); err != nil {
		return nil, fmt.Errorf("store: answer of %s: %w", e.key, err)
	}
	return &answer, nil
}

// remember is the comparison and the write that keep an answer; none without a
// key.
func (s *Store) remember(ctx context.Context, key, hash string, answer any) ([]clientv3.Cmp, []clientv3.Op, error) {
	if key == "" {
		return nil, nil, nil
	}
	lease, err := s.idemLease(ctx)
	if err != nil {
		return nil, nil, err
	}
	rec := idemRecord{version: current(), Hash: hash, Answer: json.RawMessage(encode(answer))}
	k := prefixIdem + key
	return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(k), "=", 0)},
		[]clientv3.Op{put(k, rec, clientv3.WithLease(lease))}, nil
}
