package agent

import (
	"hash/crc32"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gravenio/graven/pmemlog"
)

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func withRegistry(o Options) Options {
	o.Registry = prometheus.NewRegistry()
	return o
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 33 {
		many[strings.Repeat("k", i+1)] = "v"
	}
	for _, test := range []struct {
		field string
		edit  func(*Options)
	}{
		{"ID", func(o *Options) { o.ID = "D1" }},
		{"ID", func(o *Options) { o.ID = "a/b" }},
		{"ID", func(o *Options) { o.ID = strings.Repeat("a", 64) }},
		{"ID", func(o *Options) { o.ID = "" }},
		{"ID", func(o *Options) { o.ID, o.Media = "", MediaVolatile }},
		{"Dir", func(o *Options) { o.Dir = "" }},
		{"Media", func(o *Options) { o.Media = "tape" }},
		{"Dir", func(o *Options) { o.Media, o.Dir = MediaPmem, "" }},
		{"Pool", func(o *Options) { o.Media, o.Pool = MediaVolatile, "x" }},
		{"Durability", func(o *Options) { o.Media, o.Durability = MediaPmem, "hope" }},
		{"Durability", func(o *Options) { o.Durability = pmemlog.DurabilityFlush }},
		{"PoolSize", func(o *Options) { o.PoolSize = -1 }},
		{"Size", func(o *Options) { o.PoolSize = 4096 }}, // pmemlog's rule
		{"Listen", func(o *Options) { o.Listen = "127.0.0.1" }},
		{"Listen", func(o *Options) { o.Listen = "127.0.0.1:70000" }},
		{"Listen", func(o *Options) { o.Listen = "a b:1" }},
		{"Advertise", func(o *Options) { o.Listen = ":0" }},
		{"Advertise", func(o *Options) { o.Listen = "[::]:0" }},
		{"Advertise", func(o *Options) { o.Advertise = "not a host" }},
		{"MetricsListen", func(o *Options) { o.MetricsListen = "x" }},
		{"Endpoints", func(o *Options) { o.Endpoints = nil }},
		{"Endpoints", func(o *Options) { o.Endpoints = []string{"127.0.0.1:7070"} }},
		{"LeaseTTL", func(o *Options) { o.LeaseTTL = 1500 * time.Millisecond }},
		{"LeaseTTL", func(o *Options) { o.LeaseTTL = 2 * time.Hour }},
		{"LeaveTimeout", func(o *Options) { o.LeaveTimeout = -1 }},
		{"RecoverBytes", func(o *Options) { o.RecoverBytes = -1 }},
		{"ScrubRate", func(o *Options) { o.ScrubRate = minScrubRate - 1 }},
		{"RecoverPatience", func(o *Options) { o.RecoverPatience = -1 }},
		{"Labels", func(o *Options) { o.Labels = map[string]string{"a b": "c"} }},
		{"Labels", func(o *Options) { o.Labels = map[string]string{"a": "b/c"} }},
		{"Labels", func(o *Options) { o.Labels = many }},
		{"Version", func(o *Options) { o.Version = strings.Repeat("v", 129) }},
		{"TCP", func(o *Options) { o.TCP.MaxSessions = -1 }},
	} {
		o := Options{
			ID: "d1", Dir: t.TempDir(), PoolSize: poolSize, Endpoints: []string{"http://127.0.0.1:1"},
			Labels: maps.Clone(map[string]string{"host": "h1"}), Logger: testLogger(t),
		}
		test.edit(&o)
		a, err := New(o)
		if err == nil {
			err = a.Run(t.Context()) // what the listener checks
		}
		if err == nil || !strings.Contains(err.Error(), test.field) {
			t.Errorf("%s: got %v", test.field, err)
		}
	}
}

func TestCloseMayComeAtAnyTime(t *testing.T) {
	t.Parallel()
	o := Options{ID: "d1", Dir: t.TempDir(), PoolSize: poolSize, Endpoints: []string{"http://127.0.0.1:1"}, Logger: testLogger(t)}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	<-a.Listening()
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
	a, err = New(withRegistry(o)) // the lock is free again
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Run(t.Context()); err == nil {
		t.Error("Run of a closed agent")
	}
}
