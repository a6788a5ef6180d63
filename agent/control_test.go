package agent

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/control"
)

// Refusals come through whichever endpoint answers as what a writer tells apart;
// one that does not answer in time is not asked first the next time.
func TestCallsFailOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := start(t, c.options("d1"))
	c.untilState(a.ID(), openapi.DaemonUp)
	log := c.createLog("l", 1)
	c.open(log)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // its backlog takes connections, and nobody reads them
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	shared, err := newEndpoints([]string{"http://" + silent.Addr().String(), c.gate.url}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.close()
	api := calls{shared.apart()}
	writer := control.New(api, "test", 0)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := writer.Open(ctx, replog.OpenRequest{Log: log.LogID}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the silent server: %v", err)
	}
	if got := api.api.url(); got != c.gate.url {
		t.Errorf("%s is asked first", got)
	}
	if _, err := writer.Open(t.Context(), replog.OpenRequest{Log: log.LogID, Recovering: true}); !errors.Is(err, replog.ErrInUse) {
		t.Errorf("a log in use: %v, want %v", err, replog.ErrInUse)
	}
	if shared.url() == c.gate.url {
		t.Error("the lease follows a recovery's failover")
	}
}
