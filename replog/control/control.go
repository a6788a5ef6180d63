package control

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/core"
)

// API is what this package needs of the generated client.
type API interface {
	OpenLogWithResponse(ctx context.Context, log openapi.LogRef, params *openapi.OpenLogParams, body openapi.OpenLogJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.OpenLogResponse, error)
	RenewLogWithResponse(ctx context.Context, log openapi.LogRef, body openapi.RenewLogJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.RenewLogResponse, error)
	CloseLogWithResponse(ctx context.Context, log openapi.LogRef, body openapi.CloseLogJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.CloseLogResponse, error)
	StartReplacementWithResponse(ctx context.Context, log openapi.LogRef, params *openapi.StartReplacementParams, body openapi.StartReplacementJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.StartReplacementResponse, error)
	RecordLogEventWithResponse(ctx context.Context, log openapi.LogRef, params *openapi.RecordLogEventParams, body openapi.RecordLogEventJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.RecordLogEventResponse, error)
	ChangeReplicasWithResponse(ctx context.Context, log openapi.LogRef, body openapi.ChangeReplicasJSONRequestBody, edit ...openapi.RequestEditorFn) (*openapi.ChangeReplicasResponse, error)
}

// Client is a replog.Control over the API.
type Client struct {
	api  API
	name string
	ttl  time.Duration
	key  string
}

var _ replog.Control = (*Client)(nil)

// New returns a control for a writer that people know by name, such as the
// command that runs it. ttl is the writer's lease, in whole seconds; zero
// leaves it to the server.
func New(api API, name string, ttl time.Duration) *Client {
	return &Client{api: api, name: name, ttl: ttl}
}

// Proving returns a control whose grants are for the client that proves this key
// to the daemons (tcp.Key's Digest). Without one, only daemons that serve without
// TLS take them, unless the connections to the API prove a key.
func (c *Client) Proving(key string) *Client {
	out := *c
	out.key = key
	return &out
}

// Open implements replog.Control. A call whose answer is lost is found again by
// its idempotency key when the transport repeats it.
func (c *Client) Open(ctx context.Context, r replog.OpenRequest) (replog.Grant, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	key := uuid.NewString()
	res, err := c.api.OpenLogWithResponse(ctx, r.Log, &openapi.OpenLogParams{IdempotencyKey: &key}, openapi.OpenLogRequest{
		LeaseTTLSeconds: openapi.LeaseTTL(c.ttl / time.Second),
		MinEpoch:        int64(r.MinEpoch),
		Takeover:        r.Takeover,
		Recovering:      r.Recovering,
		ClientKey:       c.key,
		Writer:          openapi.WriterInfo{Host: host, PID: int32(os.Getpid()), Name: c.name},
	})
	if err != nil {
		return replog.Grant{}, err
	}
	if err := check(res, replog.Grant{}); err != nil {
		return replog.Grant{}, err
	}
	if res.JSON200 == nil {
		return replog.Grant{}, fmt.Errorf("the server answered %s without a body", res.Status())
	}
	return grantOf(res.JSON200)
}

// Renew implements replog.Control.
func (c *Client) Renew(ctx context.Context, g replog.Grant) (replog.Renewed, error) {
	body := writerOf(g)
	body.ClientKey = c.key
	res, err := c.api.RenewLogWithResponse(apiclient.Repeatable(ctx), g.Log.String(), body)
	if err != nil {
		return replog.Renewed{}, err
	}
	if err := check(res, g); err != nil {
		return replog.Renewed{}, err
	}
	if res.JSON200 == nil {
		return replog.Renewed{}, fmt.Errorf("the server answered %s without a body", res.Status())
	}
	now := replog.Renewed{SetVersion: uint64(res.JSON200.SetVersion), Token: res.JSON200.Grant}
	now.Replicas, err = replicasOf(res.JSON200.Replicas)
	return now, err
}

// Close implements replog.Control.
func (c *Client) Close(ctx context.Context, g replog.Grant) error {
	res, err := c.api.CloseLogWithResponse(apiclient.Repeatable(ctx), g.Log.String(), writerOf(g))
	if err != nil {
		return err
	}
	return check(res, g)
}

// MakePresent implements replog.Control.
func (c *Client) MakePresent(ctx context.Context, g replog.Grant, replicas []format.ID) error {
	_, err := c.change(ctx, g, openapi.ChangeToPresent, replicas...)
	return err
}

// Promote implements replog.Control.
func (c *Client) Promote(ctx context.Context, g replog.Grant, learner format.ID) (uint64, error) {
	set, err := c.change(ctx, g, openapi.ChangeToPresent, learner)
	switch {
	case openapi.IsProblem(err, openapi.ProblemReplacementAbandoned):
		return 0, fmt.Errorf("%w: %w", replog.ErrAbandoned, err)
	case err != nil:
		return 0, err
	case uint64(set.SetVersion) != g.SetVersion+1:
		return 0, fmt.Errorf("promote learner %s: the set has version %d, expected %d", learner, set.SetVersion, g.SetVersion+1)
	}
	return uint64(set.SetVersion), nil
}

// Abandon implements replog.Control.
func (c *Client) Abandon(ctx context.Context, g replog.Grant, learner format.ID) error {
	_, err := c.change(ctx, g, openapi.ChangeToCondemned, learner)
	return err
}

// change is the compare-and-swap of replica states: a second one of the same finds
// it done, or is refused.
func (c *Client) change(ctx context.Context, g replog.Grant, to openapi.ChangeReplicasRequestReplicasState, replicas ...format.ID) (*openapi.ReplicaSet, error) {
	w := writerOf(g)
	body := openapi.ChangeReplicasRequest{Epoch: w.Epoch, Nonce: w.Nonce, SetVersion: int64(g.SetVersion)}
	for _, id := range replicas {
		body.Replicas = append(body.Replicas, openapi.ReplicaChange{ReplicaID: id.String(), State: to})
	}
	res, err := c.api.ChangeReplicasWithResponse(apiclient.Repeatable(ctx), g.Log.String(), body)
	if err != nil {
		return nil, err
	}
	if err := check(res, g); err != nil {
		return nil, err
	}
	if res.JSON200 == nil {
		return nil, fmt.Errorf("the server answered %s without a body", res.Status())
	}
	return res.JSON200, nil
}

// Replace implements replog.Control.
func (c *Client) Replace(ctx context.Context, g replog.Grant, replica format.ID) error {
	key := uuid.NewString()
	res, err := c.api.StartReplacementWithResponse(ctx, g.Log.String(), &openapi.StartReplacementParams{IdempotencyKey: &key}, openapi.StartReplacementRequest{Replica: replica.String()})
	if err != nil {
		return err
	}
	return openapi.Check(res)
}

// RecordLoss implements replog.Control. The same loss has the same idempotency
// key, so that it is on record once.
func (c *Client) RecordLoss(ctx context.Context, g replog.Grant, l core.Loss) error {
	w := writerOf(g)
	key := fmt.Sprintf("loss-%s-%d-%s", g.Log, w.Epoch, w.Nonce)
	body := openapi.RecordLogEventRequest{
		WriterID: w.WriterID, Epoch: w.Epoch, Nonce: w.Nonce, Kind: openapi.RecordDataLossAccepted,
		Detail: fmt.Sprintf("opened from replica %s on %s, which ends at LSN %d of epoch %d: all that others held beyond is given up", l.Chosen, daemonOf(g, l.Chosen), l.Last.LSN, l.Last.Epoch),
	}
	for _, u := range l.Unknown {
		body.GivenUp = append(body.GivenUp, openapi.GivenUpReplica{ReplicaID: u.ID.String(), Detail: clip("on " + daemonOf(g, u.ID) + ": " + DescribeUnknown(u))})
	}
	res, err := c.api.RecordLogEventWithResponse(ctx, g.Log.String(), &openapi.RecordLogEventParams{IdempotencyKey: &key}, body)
	if err != nil {
		return err
	}
	return check(res, g)
}

// RecordRecovery implements replog.Control. An epoch has one recovery, and so one
// idempotency key for it.
func (c *Client) RecordRecovery(ctx context.Context, g replog.Grant, r core.Recovery) error {
	w := writerOf(g)
	key := fmt.Sprintf("recovery-%s-%d-%s", g.Log, w.Epoch, w.Nonce)
	res, err := c.api.RecordLogEventWithResponse(ctx, g.Log.String(), &openapi.RecordLogEventParams{IdempotencyKey: &key}, openapi.RecordLogEventRequest{
		WriterID: w.WriterID, Epoch: w.Epoch, Nonce: w.Nonce, Kind: openapi.RecordLogRecovered, Detail: describeRecovery(g, &r),
	})
	if err != nil {
		return err
	}
	return check(res, g)
}

// describeRecovery says in words what an open has done. It is within the contract's
// bound: a set has seven replicas at most.
func describeRecovery(g replog.Grant, r *core.Recovery) string {
	parts := make([]string, 0, len(r.Repaired)+1)
	for _, x := range r.Repaired {
		what := "had missed what lies"
		switch {
		case x.Damaged:
			what = "had lost records, and was given all"
		case x.Diverged:
			what = fmt.Sprintf("ended at LSN %d otherwise than the log, and was rewritten", x.Held)
		}
		parts = append(parts, fmt.Sprintf("replica %s on %s %s from LSN %d on", x.ID, daemonOf(g, x.ID), what, x.From))
	}
	if len(r.Away) > 0 {
		away := make([]string, len(r.Away))
		for i, id := range r.Away {
			away[i] = daemonOf(g, id)
		}
		parts = append(parts, "without "+strings.Join(away, ", "))
	}
	return fmt.Sprintf("epoch %d begins at LSN %d: %s", g.Term.Epoch, r.T, strings.Join(parts, "; "))
}

// daemonOf names the daemon of a replica: people know those, and the replica may
// be in no list any more when they read this.
func daemonOf(g replog.Grant, id format.ID) string {
	for _, r := range g.Replicas {
		if r.ID == id {
			return r.Daemon
		}
	}
	return "an unknown daemon"
}

// DescribeUnknown says in words what may be lost with a replica.
func DescribeUnknown(u core.Unknown) string {
	if u.Reason != nil {
		return "what it held is not known: " + u.Reason.Error()
	}
	return fmt.Sprintf("has lost records up to LSN %d of epoch %d, which it, or a quorum, once had", u.Evidence.LSN, u.Evidence.Epoch)
}

// maxDetail is the contract's bound of a detail, in bytes.
const maxDetail = 512

func clip(s string) string {
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail], "")
	}
	return s
}

// check turns the problems that a writer acts on into its errors. A control
// plane that names the writer's own epoch has been set back and has handed that
// epoch out again: only the replicas can tell which of the two goes on.
func check(r openapi.Response, g replog.Grant) error {
	err := openapi.Check(r)
	var p *openapi.ProblemError
	switch {
	case openapi.IsProblem(err, openapi.ProblemLogInUse):
		return fmt.Errorf("%w: %w", replog.ErrInUse, err)
	case openapi.IsProblem(err, openapi.ProblemSetBehind):
		return setBehind{err}
	case !openapi.IsProblem(err, openapi.ProblemSuperseded):
		return err
	case errors.As(err, &p) && p.Problem.Epoch > 0 && uint64(p.Problem.Epoch) <= g.Term.Epoch:
		return fmt.Errorf("the control plane has been set back and has given epoch %d to another writer: %w", p.Problem.Epoch, err)
	}
	return fmt.Errorf("%w: %w", replog.ErrSuperseded, err)
}

// setBehind is the API's refusal to grant an old replica set, by which no replica was
// asked.
type setBehind struct{ error }

func (setBehind) Is(target error) bool { return target == core.ErrSetBehind }
func (e setBehind) Unwrap() error      { return e.error }

func writerOf(g replog.Grant) openapi.WriterRequest {
	return openapi.WriterRequest{
		Epoch: int64(g.Term.Epoch), Nonce: fmt.Sprintf("%016x", g.Term.Nonce), WriterID: g.Writer,
	}
}

func grantOf(o *openapi.OpenedLog) (replog.Grant, error) {
	g := replog.Grant{
		Name: o.Name, SetVersion: uint64(o.SetVersion), AckQuorum: int(o.AckQuorum), Capacity: uint64(o.CapacityBytes),
		Token: o.Grant, Writer: o.WriterID, RenewEvery: time.Duration(o.RenewEverySeconds * float64(time.Second)),
		AfterClose: o.AfterClose,
	}
	g.Term.Epoch = uint64(o.Epoch)
	var errs [5]error
	g.Cluster, errs[0] = parseID("cluster_id", o.ClusterID)
	g.Log, errs[1] = parseID("log_id", o.LogID)
	g.Term.Nonce, errs[2] = parseNonce(o.Nonce)
	g.Replicas, errs[3] = replicasOf(o.Replicas)
	errs[4] = checkNumbers(o)
	return g, errors.Join(errs[:]...)
}

// maxCapacity is the contract's bound of a ring, in bytes; the writer allocates
// as much.
const maxCapacity = 1 << 40

func checkNumbers(o *openapi.OpenedLog) error {
	switch {
	case o.CapacityBytes < 1 || o.CapacityBytes > maxCapacity:
		return fmt.Errorf("capacity_bytes %d: must be 1 to %d", o.CapacityBytes, int64(maxCapacity))
	case o.Epoch < 1:
		return fmt.Errorf("epoch %d: must be at least 1", o.Epoch)
	case o.SetVersion < 0:
		return fmt.Errorf("set_version %d: must not be negative", o.SetVersion)
	}
	return nil
}

func replicasOf(endpoints []openapi.Endpoint) ([]replog.Replica, error) {
	out := make([]replog.Replica, 0, len(endpoints))
	for _, e := range endpoints {
		id, err := parseID("replica_id", e.ReplicaID)
		if err != nil {
			return nil, err
		}
		r := replog.Replica{ID: id, Daemon: e.DaemonID, State: stateOf(e.State)}
		if r.State == core.Learner {
			if r.Replaces, err = parseID("replaces", e.Replaces); err != nil {
				return nil, err
			}
		}
		if e.TCPAddr != "" && e.TCPPort > 0 {
			r.Address = net.JoinHostPort(e.TCPAddr, strconv.Itoa(int(e.TCPPort)))
		}
		out = append(out, r)
	}
	return out, nil
}

func stateOf(s openapi.ReplicaState) core.State {
	switch s {
	case openapi.ReplicaPresent:
		return core.Present
	case openapi.ReplicaLearner:
		return core.Learner
	default:
		return core.Allocated
	}
}

// LogOf returns what readers need of a log that the API described, with the
// addresses of its daemons.
func LogOf(cluster string, l *openapi.Log, daemons []openapi.Daemon) (replog.Log, error) {
	out := replog.Log{Name: l.Name, Capacity: uint64(l.CapacityBytes), AckQuorum: int(l.AckQuorum)}
	var err error
	if out.Cluster, err = parseID("cluster_id", cluster); err != nil {
		return out, err
	}
	if out.ID, err = parseID("log_id", l.LogID); err != nil {
		return out, err
	}
	address := make(map[string]string, len(daemons))
	for _, d := range daemons {
		if d.TCPAddr != "" && d.TCPPort > 0 {
			address[d.DaemonID] = net.JoinHostPort(d.TCPAddr, strconv.Itoa(int(d.TCPPort)))
		}
	}
	for _, r := range l.Replicas {
		id, err := parseID("replica_id", r.ReplicaID)
		if err != nil {
			return out, err
		}
		state := stateOf(r.State)
		if state == core.Learner {
			continue // it is not in the set
		}
		out.Replicas = append(out.Replicas, replog.Replica{ID: id, Daemon: r.DaemonID, State: state, Address: address[r.DaemonID]})
	}
	return out, nil
}

func parseID(field, s string) (format.ID, error) {
	id, err := uuid.Parse(s)
	if err != nil {
		return format.ID{}, fmt.Errorf("%s %q: must be a UUID: %w", field, s, err)
	}
	return format.ID(id), nil
}

func parseNonce(s string) (uint64, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 8 {
		return 0, fmt.Errorf("nonce %q: must be 16 hexadecimal digits", s)
	}
	return strconv.ParseUint(s, 16, 64)
}
