package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Member is a member of the fleet's etcd.
type Member struct {
	*Process
	// Endpoint is for clients, Peer for the other members.
	Endpoint, Peer string
	// Dir is its data folder.
	Dir string
}

// AddEtcd adds the members of an etcd, which are not started yet, with more flags
// for each. It is called once.
func (f *Fleet) AddEtcd(members int, flags ...string) error {
	var all []*Member
	var initial []string
	for i := range members {
		m := &Member{
			Endpoint: "http://" + f.address(2379+10*i), Peer: "http://" + f.address(2380+10*i),
			Dir: fmt.Sprintf("%s/etcd%d", f.dir, i+1),
		}
		all = append(all, m)
		initial = append(initial, fmt.Sprintf("etcd%d=%s", i+1, m.Peer))
	}
	for i, m := range all {
		name := fmt.Sprintf("etcd%d", i+1)
		p, err := f.process(name, "etcd", append([]string{
			"--name", name, "--data-dir", m.Dir, "--initial-cluster", strings.Join(initial, ","),
			"--listen-client-urls", m.Endpoint, "--advertise-client-urls", m.Endpoint,
			"--listen-peer-urls", m.Peer, "--initial-advertise-peer-urls", m.Peer,
			"--unsafe-no-fsync", "--log-level", "warn",
		}, flags...)...)
		if err != nil {
			return err
		}
		m.Process = p
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.etcd = all
	return nil
}

// Etcd are its members.
func (f *Fleet) Etcd() []*Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Member(nil), f.etcd...)
}

// Endpoints are those of all members.
func (f *Fleet) Endpoints() []string {
	var out []string
	for _, m := range f.Etcd() {
		out = append(out, m.Endpoint)
	}
	return out
}

// StartEtcd starts all members and waits until they serve.
func (f *Fleet) StartEtcd(ctx context.Context) error {
	for _, m := range f.Etcd() {
		if err := m.Start(); err != nil {
			return err
		}
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := c.Get(try, "graven")
		cancel()
		if err == nil {
			return nil
		}
		if nerr := nap(ctx); nerr != nil {
			return fmt.Errorf("fleet: etcd does not serve: %w: %w", nerr, err)
		}
	}
}

// Client is a client of the fleet's etcd.
func (f *Fleet) Client() (*clientv3.Client, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: f.Endpoints(), DialTimeout: 5 * time.Second,
		DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 3 * time.Second, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("fleet: etcd's client: %w", err)
	}
	return c, nil
}

// ErrNoLeader says that no member is known to lead.
var ErrNoLeader = errors.New("fleet: etcd has no leader")

// Leader is the member that leads.
func (f *Fleet) Leader(ctx context.Context, c *clientv3.Client) (*Member, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, m := range f.Etcd() {
		if !m.Running() {
			continue
		}
		s, err := c.Status(ctx, m.Endpoint)
		if err == nil && s.Leader != 0 && s.Leader == s.Header.MemberId {
			return m, nil
		}
	}
	return nil, ErrNoLeader
}
