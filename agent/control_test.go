package agent

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/replog"
	"github.com/gravenio/graven/replog/control"
)

// Refusals come through whichever endpoint answers as what a writer tells apart;
// one that does not answer in time is not asked first the next time.
func TestRecoveryFailsOver(t *testing.T) {
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
	shared, err := apiclient.New([]string{"http://" + silent.Addr().String(), c.gate.url}, apiclient.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	l := &lane{api: shared.Apart()}
	writer := control.New(l.api.API(), "test", 0)
	if _, err := writer.Open(t.Context(), replog.OpenRequest{Log: log.LogID, Recovering: true}); !errors.Is(err, replog.ErrInUse) {
		t.Errorf("a log in use: %v, want %v", err, replog.ErrInUse)
	}
	if got := l.api.URL(); got != c.gate.url {
		t.Errorf("%s is asked first", got)
	}
	if shared.URL() == c.gate.url {
		t.Error("the lease follows a recovery's failover")
	}
}
