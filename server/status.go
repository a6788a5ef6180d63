package server

import (
	"context"
	"strings"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/store"
)

// GetHealth implements openapi.StrictServerInterface.
func (s *Server) GetHealth(context.Context, openapi.GetHealthRequestObject) (openapi.GetHealthResponseObject, error) {
	return openapi.GetHealth200TextResponse("ok\n"), nil
}

// GetReady implements openapi.StrictServerInterface.
func (s *Server) GetReady(context.Context, openapi.GetReadyRequestObject) (openapi.GetReadyResponseObject, error) {
	if err := s.store.Ready(); err != nil {
		return nil, err
	}
	if err := s.store.Warning(); err != nil {
		return openapi.GetReady200TextResponse("ready, but for writes: " + strings.ReplaceAll(err.Error(), "store: ", "") + "\n"), nil
	}
	return openapi.GetReady200TextResponse("ready\n"), nil
}

// GetStatus implements openapi.StrictServerInterface.
func (s *Server) GetStatus(context.Context, openapi.GetStatusRequestObject) (openapi.GetStatusResponseObject, error) {
	view := s.store.View()
	ds, rev := view.Daemons()
	ls, _ := view.Logs()
	ready := s.store.Ready()
	ncs, nds, nls := view.Condemned(), countDaemons(ds), countLogs(ls)
	body := openapi.Status{
		ClusterID: s.store.ClusterID(), Version: s.o.Version, Ready: ready == nil,
		View: openapi.ViewStatus{Revision: rev, LagSeconds: lagSeconds(view.Lag())},
		Daemons: openapi.DaemonCounts{
			Up: nds[store.DaemonUp], Down: nds[store.DaemonDown], Draining: nds[store.DaemonDraining],
		},
		Logs: openapi.LogCounts{
			Closed: nls[store.LogClosed], Open: nls[store.LogOpen],
			Degraded: nls[store.LogDegraded], Recovering: nls[store.LogRecovering],
		},
		Bytes: countBytes(ds, ncs), Operators: countOperators(view),
	}
	own := append(etcdAlarms(s.store.Health()), s.certificateAlarm()...)
	all := append(alarms(ready, own, ds, ls), operatorAlarms(view)...)
	body.AlarmCount = len(all)
	body.Alarms = all[:min(len(all), maxAlarms)]
	return openapi.GetStatus200JSONResponse{
		Body:    body,
		Headers: openapi.GetStatus200ResponseHeaders{GravenRevision: rev},
	}, nil
}

func countDaemons(ds []store.Daemon) map[store.DaemonState]int {
	n := map[store.DaemonState]int{store.DaemonUp: 0, store.DaemonDown: 0, store.DaemonDraining: 0}
	for i := range ds {
		n[ds[i].State]++
	}
	return n
}

func countLogs(ls []store.Log) map[store.LogState]int {
	n := map[store.LogState]int{store.LogClosed: 0, store.LogOpen: 0, store.LogDegraded: 0, store.LogRecovering: 0}
	for i := range ls {
		n[ls[i].State]++
	}
	return n
}

func countBytes(ds []store.Daemon, cs []store.Condemned) openapi.ByteCounts {
	var n openapi.ByteCounts
	for i := range ds {
		n.Capacity += ds[i].CapacityBytes
		if ds[i].State == store.DaemonUp {
			n.Free += ds[i].FreeBytes
		}
		n.Reserved += ds[i].ReservedBytes
		n.Quarantined += ds[i].QuarantinedBytes
	}
	for i := range cs {
		n.Condemned += cs[i].Bytes
	}
	return n
}

// maxAlarms bounds what one status lists; alarm_count has them all.
const maxAlarms = 256

// alarms is what a person should look at, the worst first. Its own are of what the
// server itself stands on.
func alarms(ready error, own []openapi.Alarm, ds []store.Daemon, ls []store.Log) []openapi.Alarm {
	out := []openapi.Alarm{}
	if ready != nil {
		out = append(out, openapi.Alarm{
			Kind: openapi.AlarmNotReady, Detail: strings.TrimPrefix(ready.Error(), "store: "),
		})
	}
	out = append(out, own...)
	var degraded, replacing []openapi.Alarm
	for i := range ls {
		lost, other := logAlarms(&ls[i])
		out = append(out, lost...)
		degraded = append(degraded, other...)
		replacing = append(replacing, replacementAlarm(&ls[i])...)
	}
	for i := range ds {
		out = append(out, daemonAlarms(&ds[i])...)
	}
	return append(append(append(out, degraded...), replacing...), volatileAlarm(ds)...)
}
