package store

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// claim is an address that one live daemon has for itself, in one of the networks. Its
// key is on that daemon's lease.
type claim struct {
	field string // as the contract calls it
	at    string // host:port
	key   string
}

// claims are the addresses' own: the one in the TCP network, and the one in the RDMA
// network if there is one.
func (a Addresses) claims() []claim {
	tcp := claim{field: "tcp_addr", at: hostPort(a)}
	tcp.key = prefixAddresses + tcp.at
	if a.RNICAddr == "" || a.RNICPort == 0 {
		return []claim{tcp}
	}
	rdma := claim{field: "rnic_addr", at: net.JoinHostPort(a.RNICAddr, strconv.Itoa(a.RNICPort))}
	rdma.key = prefixAddresses + "rdma/" + rdma.at
	return []claim{tcp, rdma}
}

func hostPort(a Addresses) string {
	return net.JoinHostPort(a.TCPAddr, strconv.Itoa(a.TCPPort))
}

func keysOf(cs []claim) []string {
	keys := make([]string, len(cs))
	for i, c := range cs {
		keys[i] = c.key
	}
	return keys
}

// free refuses an address whose key says that it is another daemon's.
func (c claim) free(e entry, daemonID string) error {
	owner, err := ownerOf(e)
	if err != nil || owner == "" || owner == daemonID {
		return err
	}
	return &DaemonError{DaemonID: daemonID, Err: ErrAddressInUse, Detail: fmt.Sprintf(
		"%s with its port is %s, and daemon %s's: serve at another one, or stop that daemon", c.field, c.at, owner)}
}

// claiming makes the addresses of these keys the daemon's, for as long as its lease lives.
func claiming(es []entry, daemonID string, lease clientv3.LeaseID) (cmps []clientv3.Cmp, ops []clientv3.Op) {
	for _, e := range es {
		cmps = append(cmps, e.unchanged())
		ops = append(ops, put(e.key, ownerRecord{version: current(), DaemonID: daemonID}, clientv3.WithLease(lease)))
	}
	return cmps, ops
}

// leaving are the keys of addresses that are in none of the claims that are kept.
func leaving(a Addresses, kept []claim) (ops []clientv3.Op) {
	for _, c := range besides(a.claims(), kept) {
		ops = append(ops, clientv3.OpDelete(c.key))
	}
	return ops
}

// besides are the claims that are not among others.
func besides(cs, others []claim) []claim {
	return slices.DeleteFunc(slices.Clone(cs), func(c claim) bool { return slices.Contains(others, c) })
}
