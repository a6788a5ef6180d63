package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/pmemlog"
)

func newPoolInfo(a *app) *cobra.Command {
	var noScan bool
	cmd := &cobra.Command{
		Use:   "info PATH",
		Short: "Show what a pool is and which replicas it holds",
		Long: `Show whose a pool is, how much room it has and which replicas it holds. To say
where each replica ends, its ring is read; with --no-scan only its header is.`,
		Example: `  graven pool info /var/lib/graven
  graven pool info ./graven-data/d1 -o json | jq '.replicas[] | {log_id, state}'`,
		Args: exactly("PATH"),
	}
	cmd.Flags().BoolVar(&noScan, "no-scan", false, "read no rings: where replicas end and what they have lost stays unknown")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withPool(cmd.Context(), args[0], func(v *poolView) error {
			info := v.info()
			if err := info.addReplicas(cmd.Context(), v, noScan); err != nil {
				return err
			}
			if info.Refused != "" || info.bad > 0 {
				note(a.err, "note: there is damage; see it with `graven pool check %s`", args[0])
			}
			return a.showValue(info, info.rows)
		})
	}
	return cmd
}

// poolInfo is the result of `pool info`.
type poolInfo struct {
	Path        string        `json:"path"`
	PoolID      string        `json:"pool_id"`
	ClusterID   string        `json:"cluster_id"` // empty until bound
	DaemonID    string        `json:"daemon_id"`  // empty until bound
	Incarnation uint64        `json:"incarnation"`
	Confirmed   uint64        `json:"confirmed_incarnation"`
	Media       string        `json:"media"`   // on which the pool says that it was made
	LiesIn      string        `json:"lies_in"` // file or block device, as it was found
	Size        int64         `json:"size_bytes"`
	Free        int64         `json:"free_bytes"`
	LargestFree int64         `json:"largest_free_bytes"`
	LargestRing uint64        `json:"largest_capacity_bytes"`
	Entries     int           `json:"entries"`
	FreeEntries int           `json:"free_entries"`
	Removed     int           `json:"removed_replicas"`
	Refused     string        `json:"refused,omitempty"` // why an agent could not use it
	Replicas    []poolReplica `json:"replicas"`
	bad         int           // replicas that are not whole
}

// poolReplica is a replica in a pool.
type poolReplica struct {
	ReplicaID   string  `json:"replica_id"`
	LogID       string  `json:"log_id"`
	ClusterID   string  `json:"cluster_id"`
	Capacity    uint64  `json:"capacity_bytes"`
	Offset      int64   `json:"offset_bytes"`
	State       string  `json:"state"`
	FencedEpoch uint64  `json:"fenced_epoch"`
	FencedNonce string  `json:"fenced_nonce"`
	TrimLSN     uint64  `json:"trim_lsn"`
	TailLSN     *uint64 `json:"tail_lsn"` // null when the ring was not read
	Records     *uint64 `json:"records"`
	Beyond      *uint64 `json:"records_beyond_tail"`
	Hint        string  `json:"hint"`     // epoch/LSN that it has acknowledged
	Evidence    string  `json:"evidence"` // epoch/LSN that it must once have held
	Suspect     bool    `json:"suspect"`
	Error       string  `json:"error,omitempty"`
}

// States of a replica in a pool.
const (
	poolWhole     = "whole"
	poolSuspect   = "suspect"     // it has lost what was acknowledged
	poolDamaged   = "damaged"     // something of it can't be read
	poolUnusable  = "unusable"    // an agent would not serve it
	poolUnscanned = "not scanned" // only its header was read
)

func poolState(v *pmemlog.ReplicaView) string {
	switch {
	case v.Err != nil:
		return poolUnusable
	case v.Suspect():
		return poolSuspect
	case v.Damaged():
		return poolDamaged
	case !v.Scanned:
		return poolUnscanned
	default:
		return poolWhole
	}
}

// info returns what is known without looking at the replicas.
func (v *poolView) info() *poolInfo {
	id := v.Identity
	i := &poolInfo{
		Path: v.path, PoolID: id.Pool.String(), ClusterID: idText(id.Cluster), DaemonID: id.Daemon,
		Incarnation: id.Incarnation, Confirmed: id.Confirmed, Media: id.Kind.String(), LiesIn: v.node,
		Size: id.Size, Free: v.Space.Free, LargestFree: v.Space.Largest, LargestRing: v.Space.LargestCapacity(),
		Entries: v.Entries, FreeEntries: v.Space.Entries, Removed: v.Removed, Replicas: []poolReplica{},
	}
	if v.Refused != nil {
		i.Refused = v.Refused.Error()
	}
	return i
}

func (i *poolInfo) addReplicas(ctx context.Context, v *poolView, noScan bool) error {
	for _, r := range v.Regions {
		var view pmemlog.ReplicaView
		if noScan {
			view = v.Header(r)
		} else {
			var err error
			if view, err = v.Replica(ctx, r, pmemlog.Visit{}); err != nil {
				return err
			}
		}
		if view.Damaged() {
			i.bad++
		}
		i.Replicas = append(i.Replicas, replicaOf(&view))
	}
	return nil
}

func replicaOf(v *pmemlog.ReplicaView) poolReplica {
	r := poolReplica{
		ReplicaID: v.Replica.String(), LogID: v.Log.String(), ClusterID: v.Cluster.String(),
		Capacity: v.Capacity, Offset: v.Offset, State: poolState(v), Suspect: v.Suspect(),
	}
	if v.Err != nil {
		r.Error = v.Err.Error()
	}
	if v.Readable {
		r.FencedEpoch, r.FencedNonce = v.Slot.Fenced.Epoch, nonceText(v.Slot.Fenced.Nonce)
		r.TrimLSN, r.Hint = v.Slot.Trim.LSN, v.Hint.String()
	}
	if v.Scanned {
		r.TailLSN, r.Records, r.Beyond = &v.Scan.Chain.LSN, &v.Scan.Records, &v.Scan.Beyond
		r.Evidence = v.Scan.Evidence.String()
	}
	return r
}

// identityRows prints all but the replicas.
func (i *poolInfo) identityRows(t *table) {
	t.row("pool", i.PoolID+" in "+i.Path)
	t.row("cluster", cmp.Or(i.ClusterID, "none yet"))
	daemon := "none yet"
	if i.DaemonID != "" {
		daemon = fmt.Sprintf("%s, incarnation %d, confirmed %d", i.DaemonID, i.Incarnation, i.Confirmed)
	}
	t.row("daemon", daemon)
	t.row("media", fmt.Sprintf("%s, says the pool; it lies in a %s", i.Media, i.LiesIn))
	t.row("size", exactSize(i.Size))
	room := fmt.Sprintf("room for a ring of up to %s", humanSize(i.LargestRing))
	if i.LargestRing == 0 {
		room = "room for no ring"
	}
	t.row("free", fmt.Sprintf("%s, %s", humanSize(i.Free), room))
	t.row("entries", fmt.Sprintf("%d, %d free, %d of which remember a removed replica", i.Entries, i.FreeEntries, i.Removed))
	if i.Refused != "" {
		t.row("refused", i.Refused)
	}
}

// exactSize is a size for people, and for who calculates.
func exactSize(n int64) string { return fmt.Sprintf("%s (%d bytes)", humanSize(n), n) }

func (i *poolInfo) rows(t *table) {
	i.identityRows(t)
	_ = t.w.Flush()
	t.row()
	if len(i.Replicas) == 0 {
		t.row("no replicas")
		return
	}
	t.row("REPLICA", "LOG", "CAPACITY", "EPOCH", "TRIM", "TAIL", "RECORDS", "HINT", "STATE")
	for _, r := range i.Replicas {
		if r.FencedNonce == "" {
			t.row(r.ReplicaID, r.LogID, humanSize(r.Capacity), "", "", "", "", "", r.State)
			continue
		}
		t.row(r.ReplicaID, r.LogID, humanSize(r.Capacity), r.FencedEpoch, r.TrimLSN, numberText(r.TailLSN), numberText(r.Records), r.Hint, r.State)
	}
}

// numberText is a number that may not be known.
func numberText(n *uint64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(*n, 10)
}
