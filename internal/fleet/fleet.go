package fleet

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fleet is a cluster of processes. Make it with New and close it.
type Fleet struct {
	dir string
	ip  string

	mu        sync.Mutex
	processes []*Process
	etcd      []*Member
	servers   []*Server
	agents    []*Agent
}

// New makes a fleet that keeps everything in the folder, which must be there.
func New(dir string) *Fleet {
	b := make([]byte, 3)
	rand.Read(b) // never fails
	return &Fleet{dir: dir, ip: fmt.Sprintf("127.%d.%d.%d", 1+b[0]%254, b[1], 1+b[2]%254)}
}

// Dir is the fleet's folder.
func (f *Fleet) Dir() string { return f.dir }

// Close kills every process and waits for its end.
func (f *Fleet) Close() error {
	f.mu.Lock()
	ps := f.processes
	f.mu.Unlock()
	var errs []error
	for i := len(ps) - 1; i >= 0; i-- {
		errs = append(errs, ps[i].Kill())
	}
	return errors.Join(errs...)
}

// Died tells of every process that ended without having been told to.
func (f *Fleet) Died() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var died []string
	for _, p := range f.processes {
		p.mu.Lock()
		died = append(died, p.died...)
		p.mu.Unlock()
	}
	return died
}

// Scandals are the lines of the logs that no process may ever write: races,
// panics, and books that do not add up. More are the texts that a test adds.
func (f *Fleet) Scandals(more ...string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []string
	for _, p := range f.processes {
		b, err := os.ReadFile(p.Log())
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("fleet: %w", err)
		}
		for _, bad := range append([]string{"DATA RACE", "panic:", "fatal error:", "more bytes are released"}, more...) {
			if i := bytes.Index(b, []byte(bad)); i >= 0 {
				found = append(found, fmt.Sprintf("%s: %.2000s", p.Log(), b[i:]))
			}
		}
	}
	return found, nil
}

func (f *Fleet) address(port int) string { return net.JoinHostPort(f.ip, strconv.Itoa(port)) }

// Server is an API server.
type Server struct {
	*Process
	URL string
}

// AddServer adds an API server over the fleet's etcd, which is not started yet,
// with more flags.
func (f *Fleet) AddServer(flags ...string) (*Server, error) {
	n := len(f.servers)
	listen := f.address(7070 + n)
	p, err := f.process(fmt.Sprintf("server%d", n+1), "graven", append([]string{
		"server", "--etcd-endpoints", strings.Join(f.Endpoints(), ","), "--listen", listen,
	}, flags...)...)
	if err != nil {
		return nil, err
	}
	s := &Server{Process: p, URL: "http://" + listen}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers = append(f.servers, s)
	return s, nil
}

// Servers are all that were added.
func (f *Fleet) Servers() []*Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Server(nil), f.servers...)
}

// URLs are those of all servers.
func (f *Fleet) URLs() []string {
	var urls []string
	for _, s := range f.Servers() {
		urls = append(urls, s.URL)
	}
	return urls
}

// Ready waits until /readyz is answered with 200.
func (s *Server) Ready(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("fleet: %w", err)
		}
		rsp, err := client.Do(req)
		if err == nil {
			_ = rsp.Body.Close()
			if rsp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(rsp.Status)
		}
		last = err
		if err := nap(ctx); err != nil {
			return fmt.Errorf("fleet: %s is not ready: %w: %w; see %s", s.Name, err, last, s.Log())
		}
	}
}

// nap is the time between two looks at what no event announces across processes.
func nap(ctx context.Context) error {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Agent is a replica daemon with a file pool of its own.
type Agent struct {
	*Process
	ID   string
	Pool string // file
}

// AddAgent adds an agent that uses the fleet's servers, with more flags. Its port
// is the same at every start if it is fixed.
func (f *Fleet) AddAgent(id string, poolBytes int64, fixed bool, flags ...string) (*Agent, error) {
	f.mu.Lock()
	port := 0
	if fixed {
		port = 7100 + len(f.agents)
	}
	f.mu.Unlock()
	dir := f.dir + "/" + id
	p, err := f.process(id, "graven", append([]string{
		"agent", "--id", id, "--dir", dir, "--listen", f.address(port), "--api", strings.Join(f.URLs(), ","),
		"--pool-size", strconv.FormatInt(poolBytes, 10), "--label", "host=" + id,
	}, flags...)...)
	if err != nil {
		return nil, err
	}
	a := &Agent{Process: p, ID: id, Pool: dir + "/pool"}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.agents = append(f.agents, a)
	return a, nil
}

// Agents are all that were added.
func (f *Fleet) Agents() []*Agent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Agent(nil), f.agents...)
}
