package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/placement"
	"github.com/gravenio/graven/store"
)

const (
	defaultReplicas = 3
	// createTries bounds how often a create that met another one places again.
	createTries = 12
)

// CreateLog implements openapi.StrictServerInterface.
func (s *Server) CreateLog(ctx context.Context, r openapi.CreateLogRequestObject) (openapi.CreateLogResponseObject, error) {
	c, err := newCreate(*r.Body, deref(r.Params.IdempotencyKey))
	if err != nil {
		return nil, err
	}
	// The answer that was given first comes before any placement: the space may
	// be gone because this very log has it.
	l, err := s.store.CreatedLog(ctx, c.log.IdempotencyKey, c.log.RequestHash)
	if err == nil && l == nil {
		l, err = s.create(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	if now, ok := s.store.View().Log(l.LogID); ok {
		l = &now
	}
	return openapi.CreateLog201JSONResponse{
		Body:    log(l),
		Headers: openapi.CreateLog201ResponseHeaders{ETag: etag(l.ModRevision), Location: "/v1/logs/" + l.Name},
	}, nil
}

// create places and creates until it meets nobody else's create.
func (s *Server) create(ctx context.Context, c create) (*store.Log, error) {
	return backoff.Retry(ctx, func() (*store.Log, error) {
		l, err := s.placeAndCreate(ctx, c)
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return nil, backoff.Permanent(err)
		}
		return l, err
	}, backoff.WithBackOff(contention()), backoff.WithMaxTries(createTries))
}

// contention waits a few milliseconds, more each time and never the same.
func contention() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 5 * time.Millisecond
	b.MaxInterval = 200 * time.Millisecond
	return b
}

// create is a request with its defaults filled in.
type create struct {
	place placement.Request
	log   store.CreateLogRequest
}

func newCreate(b openapi.CreateLogRequest, key string) (create, error) {
	if b.Replicas == 0 {
		b.Replicas = defaultReplicas
	}
	majority := b.Replicas/2 + 1
	if b.AckQuorum == 0 {
		b.AckQuorum = majority
	}
	if b.AckQuorum < majority || b.AckQuorum > b.Replicas {
		return create{}, invalid("ack_quorum", "must be %d (a majority of %d replicas) to %d, not %d",
			majority, b.Replicas, b.Replicas, b.AckQuorum)
	}
	if err := checkLabels("placement.labels", b.Placement.Labels); err != nil {
		return create{}, err
	}
	hash, err := hashOf(b)
	if err != nil {
		return create{}, err
	}
	return create{
		place: placement.Request{
			Replicas:      int(b.Replicas),
			ReplicaBytes:  b.CapacityBytes + store.ReplicaOverheadBytes,
			FailureDomain: placement.FailureDomain(b.Placement.FailureDomain),
			Transport:     string(b.Placement.Transport),
			Media:         string(b.Placement.Media),
			Labels:        b.Placement.Labels,
			Exclude:       b.Placement.Exclude,
		},
		log: store.CreateLogRequest{
			Name: b.Name, AckQuorum: int(b.AckQuorum), CapacityBytes: b.CapacityBytes,
			Placement: store.PlacementRules{
				FailureDomain: string(b.Placement.FailureDomain), Transport: string(b.Placement.Transport),
				Media: string(b.Placement.Media), Labels: b.Placement.Labels,
			},
			IdempotencyKey: key, RequestHash: hash,
		},
	}, nil
}

// hashOf tells a repeated request from another one under the same key.
func hashOf(b openapi.CreateLogRequest) (string, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("hash request: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// placeAndCreate is one attempt: advice from the view, then the transaction
// that has the last word.
func (s *Server) placeAndCreate(ctx context.Context, c create) (*store.Log, error) {
	ids, _, err := s.store.View().Place(c.place, rand.Uint64())
	if err != nil {
		return nil, err
	}
	c.log.Daemons = ids
	return s.store.CreateLog(ctx, c.log)
}
