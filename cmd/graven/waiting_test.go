package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A command that can't go on says what it waits for: daemons, or the API itself.
func TestWaitText(t *testing.T) {
	t.Parallel()
	const twoAway = `{"log_id":"00000000-0000-4000-8000-000000000001","name":"l1","ack_quorum":2,"replicas":[
		{"daemon_id":"d1","daemon_state":"up"},{"daemon_id":"d2","daemon_state":"down"},{"daemon_id":"d3","daemon_state":"up","missing":true}]}`
	for name, tt := range map[string]struct {
		status   int // 0 never answers
		body     string
		patience time.Duration
		want     string
	}{
		"daemons":          {200, twoAway, patience, "log l1 needs 2 of its 3 replicas, and those on d2, d3 are not there; waiting for them"},
		"nothing in sight": {200, strings.ReplaceAll(twoAway, "true", "false"), patience, ""},
		"no such log":      {404, `{"type":"urn:graven:problem:not-found","status":404,"title":"t"}`, patience, ""},
		"etcd is away":     {503, `{"type":"urn:graven:problem:unavailable","status":503,"title":"t"}`, patience, "log l1 can't be opened without the API: "},
		"a deaf API":       {0, "", 10 * time.Millisecond, "no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.status == 0 {
					<-r.Context().Done()
					return
				}
				w.Header().Set("Content-Type", "application/json")
				if tt.status >= 400 {
					w.Header().Set("Content-Type", "application/problem+json")
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer srv.Close()
			client, err := (&app{endpoints: srv.URL}).dialer()
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			api := client.API()
			got := waitText(t.Context(), api, "l1", tt.patience)
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("says %q, want %q", got, tt.want)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if got := waitText(ended, api, "l1", tt.patience); got != "" {
				t.Errorf("when nobody waits any more: %q", got)
			}
		})
	}
}

func TestFirstCapacity(t *testing.T) {
	t.Parallel()
	for pool, want := range map[size]string{4 << 30: "256MiB", 512 << 20: "256MiB", 256 << 20: "128MiB", 100<<20 + 1: "50MiB", 3 << 20: "1MiB"} {
		if got := firstCapacity(pool); got.String() != want {
			t.Errorf("in a pool of %s: %s, want %s", &pool, &got, want)
		}
	}
}
