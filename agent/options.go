package agent

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gravenio/graven/apiclient"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/rdmaio/tcp"
)

// The media that a pool may lie on.
const (
	MediaFile     = "file"     // a file or block device, synced with fdatasync
	MediaPmem     = "pmem"     // persistent memory: a file on DAX, or a device-dax
	MediaVolatile = "volatile" // memory, gone with the process; a new pool at each start
)

// DefaultPoolSize is the size of a pool that is made anew, in bytes.
const DefaultPoolSize = 4 << 30

// DefaultRecoverBytes is the largest log that is recovered, in bytes.
const DefaultRecoverBytes = 1 << 30

// DefaultScrubRate is how fast a pool is scrubbed, in bytes a second.
const DefaultScrubRate = 64 << 20

// DefaultScrubEvery is how often a pool is scrubbed.
const DefaultScrubEvery = 24 * time.Hour

// Bounds of Options. The server may ask for a longer lease.
const (
	minTTL       = time.Second
	maxTTL       = time.Hour
	maxLabels    = 32
	maxVersion   = 128 // bytes
	minScrubRate = 64 << 10
)

// Options say what an agent is to be. Dir (for a file), ID and Endpoints are
// required; an ID that the pool is bound to already may be left out.
type Options struct {
	// ID is the daemon's ID: 1 to 63 of a-z, 0-9, '.', '_' and '-', the first
	// one a letter or digit. A pool keeps the one that it was registered under.
	ID string

	// Dir is the folder of the pool; it is made if there is none. With
	// MediaVolatile it may be empty: then the grant keys are kept in memory too.
	Dir string

	// Pool is where the pool is, if not in the file "pool" of Dir: a file, a block
	// device or a device-dax. The pool must be there already; only the one in Dir
	// is made.
	Pool string

	// Media is MediaFile (the default), MediaPmem or MediaVolatile.
	Media string

	// Durability says why stores to a pool of MediaPmem are persistent;
	// pmemlog.DurabilityAuto, which believes the system only, by default.
	Durability pmemlog.Durability

	// PoolSize is the size in bytes of a pool that is made anew in Dir,
	// DefaultPoolSize by default. A file is sparse until it is used.
	PoolSize int64

	// Listen is where writers are served, host:port; 127.0.0.1:0 by default.
	// With port 0 the system picks one.
	Listen string

	// Advertise is the host that writers are told to dial, with the port that
	// is listened on; the host of Listen by default. It must be set where Listen
	// means all addresses.
	Advertise string

	// Endpoints are the API servers, as http or https URLs. One is used until
	// it fails, then another.
	Endpoints []string

	// API says how they are reached: TLS, token, time-outs.
	API apiclient.Options

	// LeaseTTL is the lease asked for, in whole seconds from 1 s to 1 h; zero
	// leaves it to the server.
	LeaseTTL time.Duration

	// Labels say where the daemon is; host, rack and zone are failure domains.
	Labels map[string]string

	// Version of the program, as it is told to the control plane.
	Version string

	// MetricsListen is where /metrics and /healthz are served, host:port; empty
	// for nowhere. On loopback and without TLS, only requests are answered whose
	// Host is loopback, too.
	MetricsListen string

	// MetricsTLS is what they are served with; without TLS if nil.
	MetricsTLS *tls.Config

	// Registry takes the agent's metrics; a new one by default.
	Registry *prometheus.Registry

	// Logger is slog.Default by default.
	Logger *slog.Logger

	// TCP tunes the sessions; its Logger is the agent's unless it is set. Its TLS
	// fields are those below.
	TCP tcp.Options

	// TLS, if set, has writers served with TLS 1.3 only, and only those that prove
	// the key which their grant names; readers need a grant, too. Without it nobody
	// proves anything, and packets travel as they are.
	TLS *tls.Config

	// CertificateExpires says when the certificate that is used with TLS stops being
	// valid; nil without one. It is shown with the metrics.
	CertificateExpires func() time.Time

	// DialTLS is how the agent reaches other daemons when it recovers a log; see
	// tcp.Options. It must be set if TLS is.
	DialTLS func(daemon, host string) (*tls.Config, error)

	// LeaveTimeout bounds how long the end of Run waits for the sessions' last
	// I/O, and then for the control plane to take the last words, before it
	// goes on; 5 s by default.
	LeaveTimeout time.Duration

	// RecoverBytes is the capacity of the largest log that the agent recovers when
	// it has no writer, DefaultRecoverBytes by default. Meanwhile the agent takes
	// as much memory, for one log at a time. A larger log waits for a client that
	// opens it.
	RecoverBytes int64

	// RecoverPatience is how long a recovery may make no progress before it is
	// given up, to be tried again later; 10 minutes by default. The log must be
	// open by then, and for a small one sooner: it may wait for daemons that are
	// away while others could be recovered.
	RecoverPatience time.Duration

	// ScrubEvery is how often the whole pool is read and checked, 24 hours by
	// default; negative for never. The first time comes within a 24th of that.
	ScrubEvery time.Duration

	// ScrubRate is how fast, in bytes a second, DefaultScrubRate by default and
	// at least 64 KiB.
	ScrubRate int64

	// now is the clock of a test whose host's is wrong.
	now func() time.Time

	// wrap puts a medium of a test between pool and file.
	wrap func(pmemlog.Medium) pmemlog.Medium
}

func (o Options) withDefaults() Options {
	if o.Media == "" {
		o.Media = MediaFile
	}
	if o.PoolSize == 0 {
		o.PoolSize = DefaultPoolSize
	}
	if o.Durability == "" {
		o.Durability = pmemlog.DurabilityAuto
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.TCP.Logger == nil {
		o.TCP.Logger = o.Logger
	}
	o.TCP.TLS, o.TCP.DialTLS = o.TLS, o.DialTLS
	if o.LeaveTimeout == 0 {
		o.LeaveTimeout = 5 * time.Second
	}
	if o.RecoverBytes == 0 {
		o.RecoverBytes = DefaultRecoverBytes
	}
	if o.RecoverPatience == 0 {
		o.RecoverPatience = 10 * time.Minute
	}
	if o.ScrubEvery == 0 {
		o.ScrubEvery = DefaultScrubEvery
	}
	if o.ScrubRate == 0 {
		o.ScrubRate = DefaultScrubRate
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.wrap == nil {
		o.wrap = func(m pmemlog.Medium) pmemlog.Medium { return m }
	}
	return o
}

var (
	idPattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	labelKey    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)
	labelValue  = regexp.MustCompile(`^[A-Za-z0-9._-]{0,63}$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.:%_-]{0,254}$|^::[A-Za-z0-9.:%_-]{0,253}$`)
)

func bad(field, format string, args ...any) error {
	return fmt.Errorf("agent: %s: %s", field, fmt.Sprintf(format, args...))
}

func (o *Options) validate() error {
	if o.ID != "" && !idPattern.MatchString(o.ID) {
		return bad("ID", "%q must be 1 to 63 of a-z, 0-9, '.', '_' and '-' and begin with a letter or digit", o.ID)
	}
	switch {
	case o.Media != MediaFile && o.Media != MediaPmem && o.Media != MediaVolatile:
		return bad("Media", "%q must be %s, %s or %s", o.Media, MediaFile, MediaPmem, MediaVolatile)
	case o.Media != MediaVolatile && o.Dir == "":
		return bad("Dir", "must name the folder of the pool and of what the daemon keeps beside it")
	case o.Media == MediaVolatile && o.Pool != "":
		return bad("Pool", "%q can't be used with medium %s, which is in memory", o.Pool, MediaVolatile)
	case !slices.Contains(pmemlog.Durabilities(), o.Durability):
		return bad("Durability", "%q must be one of %v", o.Durability, pmemlog.Durabilities())
	case o.Durability != pmemlog.DurabilityAuto && o.Media != MediaPmem:
		return bad("Durability", "%q is for medium %s only, this is %s", o.Durability, MediaPmem, o.Media)
	case o.Media == MediaVolatile && o.ID == "":
		return bad("ID", "must be set: a volatile pool remembers none")
	case o.TLS != nil && o.DialTLS == nil:
		return bad("DialTLS", "must be set with TLS: the agent is a client of other daemons when it recovers a log")
	case o.PoolSize < 0:
		return bad("PoolSize", "%d must be positive", o.PoolSize)
	case len(o.Version) > maxVersion:
		return bad("Version", "has %d bytes, at most %d", len(o.Version), maxVersion)
	case o.LeaveTimeout < 0:
		return bad("LeaveTimeout", "%v must be positive", o.LeaveTimeout)
	case o.RecoverBytes < 0:
		return bad("RecoverBytes", "%d must be positive", o.RecoverBytes)
	case o.RecoverPatience < 0:
		return bad("RecoverPatience", "%v must be positive", o.RecoverPatience)
	case o.ScrubRate < minScrubRate:
		return bad("ScrubRate", "%d bytes a second must be at least %d; a negative ScrubEvery turns scrubs off", o.ScrubRate, minScrubRate)
	case o.LeaseTTL != 0 && (o.LeaseTTL < minTTL || o.LeaseTTL > maxTTL || o.LeaseTTL%time.Second != 0):
		return bad("LeaseTTL", "%v must be whole seconds from %v to %v", o.LeaseTTL, minTTL, maxTTL)
	}
	if err := o.validateAddresses(); err != nil {
		return err
	}
	return o.validateLabels()
}

func (o *Options) validateAddresses() error {
	host, err := hostOf("Listen", o.Listen)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); o.Advertise == "" && (host == "" || err == nil && ip.IsUnspecified()) {
		return bad("Advertise", "must be set to the host that writers can reach, since Listen %q means all addresses", o.Listen)
	}
	if o.Advertise != "" && !hostPattern.MatchString(o.Advertise) {
		return bad("Advertise", "%q must be an IP address or a host name, without a port", o.Advertise)
	}
	if o.MetricsListen != "" {
		if _, err := hostOf("MetricsListen", o.MetricsListen); err != nil {
			return err
		}
	}
	if len(o.Endpoints) == 0 || len(o.Endpoints) > apiclient.MaxServers {
		return bad("Endpoints", "are %d, must be 1 to %d URLs of API servers", len(o.Endpoints), apiclient.MaxServers)
	}
	for _, e := range o.Endpoints {
		if !strings.Contains(e, "://") {
			return bad("Endpoints", "%q must be an http or https URL such as http://127.0.0.1:7070", e)
		}
		if _, err := apiclient.ParseURL(e); err != nil {
			return bad("Endpoints", "%v", err)
		}
	}
	return nil
}

func (o *Options) validateLabels() error {
	if len(o.Labels) > maxLabels {
		return bad("Labels", "are %d, at most %d", len(o.Labels), maxLabels)
	}
	for k, v := range o.Labels {
		if !labelKey.MatchString(k) || !labelValue.MatchString(v) {
			return bad("Labels", "%q=%q: key and value must be up to 63 letters, digits, '.', '_' or '-' (in a key also '/'), a key begins with a letter or digit", k, v)
		}
	}
	return nil
}

// hostOf checks an address of the form host:port and returns its host.
func hostOf(field, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", bad(field, "%q must be host:port", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", bad(field, "%q: port must be 0 to 65535, not %q", address, port)
	}
	if host != "" && !hostPattern.MatchString(host) {
		return "", bad(field, "%q: %q is no IP address or host name", address, host)
	}
	return host, nil
}
