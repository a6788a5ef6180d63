package server

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// originError refuses what a foreign web page could have sent.
type originError struct{ header, value, answers string }

func (e *originError) Error() string {
	return fmt.Sprintf("%s %.100q is refused: this server answers to %s only", e.header, e.value, e.answers)
}

const loopbackNames = "localhost, 127.0.0.1 and [::1]"

// guardOrigin keeps web pages of others from using what a browser on this network
// may reach, or the certificate that it has: a name that a foreign DNS points at
// the server is refused by its Host, a foreign page by what the browser says of
// where a request comes from.
func (s *Server) guardOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.checkOrigin(r); err != nil {
			s.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) checkOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	switch {
	case s.o.LoopbackOnly && !isLoopback(r.Host):
		return &originError{"Host", r.Host, loopbackNames}
	case s.o.LoopbackOnly && origin != "" && !sameOrigin(origin, r.Host):
		return &originError{"Origin", origin, loopbackNames}
	case len(s.o.Hosts) > 0 && !isLoopback(r.Host) && !slices.Contains(s.o.Hosts, hostOf(r.Host)):
		return &originError{"Host", r.Host, strings.Join(s.o.Hosts, ", ")}
	}
	// It looks at what changes something. Reading needs no guard: a browser gives
	// a foreign page no answer that does not allow it.
	if err := s.cross.Check(r); err != nil {
		return &originError{"Origin", origin, "pages of its own"}
	}
	return nil
}

// newCross trusts the names that the server is reached under, whatever port a
// proxy has before it.
func newCross(hosts []string) (*http.CrossOriginProtection, error) {
	c := http.NewCrossOriginProtection()
	for _, h := range hosts {
		if strings.ContainsAny(h, "/@ ") || h == "" || h != hostOf(h) {
			return nil, fmt.Errorf("server: Hosts: %q must be a host name or an IP address in lower case, without a port", h)
		}
		if err := c.AddTrustedOrigin("https://" + bracketed(h)); err != nil {
			return nil, fmt.Errorf("server: Hosts: %w", err)
		}
	}
	return c, nil
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func hostOf(hostport string) string {
	if ip := net.ParseIP(hostport); ip != nil {
		return ip.String()
	}
	return strings.ToLower((&url.URL{Host: hostport}).Hostname())
}

func isLoopback(hostport string) bool {
	host := hostOf(hostport)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host == host
}
