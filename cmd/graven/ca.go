package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gravenio/graven/identity"
)

// The names of an authority's files in its folder.
const (
	caCertName = "ca.crt"
	caKeyName  = "ca.key"
)

func newCA(a *app) *cobra.Command {
	return group("ca", "Make certificates, for those who have no authority of their own",
		`Make certificates, for those who have no authority of their own. A certificate says
who somebody is by URIs in it, graven://ROLE/NAME and graven://group/GROUP;
docs/security.md has the rest.`,
		newCAInit(a), newCAIssue(a))
}

func newCAInit(a *app) *cobra.Command {
	var dir, name string
	var validity time.Duration
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make an authority",
		Long: `Make an authority: ca.crt, which everybody gets, and ca.key, which makes
certificates. Keep that one off the machines of the cluster. Nothing that is there
is overwritten.`,
		Example: `  graven ca init --dir ./ca`,
		Args:    exactly(),
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "./ca", "`FOLDER` of the authority")
	f.StringVar(&name, "name", "graven", "`NAME` of the authority, for people")
	f.DurationVar(&validity, "validity", identity.DefaultAuthorityValidity, "for how long it is valid")
	cmd.RunE = func(*cobra.Command, []string) error {
		if validity <= 0 {
			return usagef("--validity must be positive")
		}
		if err := makeAuthority(dir, name, validity); err != nil {
			return err
		}
		return a.madeFiles([]string{filepath.Join(dir, caCertName), filepath.Join(dir, caKeyName)})
	}
	return cmd
}

// makeAuthority makes the folder's files.
func makeAuthority(dir, name string, validity time.Duration) error {
	_, files, err := identity.NewAuthority(name, validity)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	return writePair(filepath.Join(dir, caCertName), filepath.Join(dir, caKeyName), files, false)
}

func openAuthority(dir string) (*identity.Authority, error) {
	var files identity.PEM
	for name, to := range map[string]*[]byte{caCertName: &files.Cert, caKeyName: &files.Key} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, withHint(err, "make an authority with `graven ca init --dir %s`", shellWord(dir))
		}
		*to = b
	}
	a, err := identity.ParseAuthority(files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, trimmed(err))
	}
	return a, nil
}

// writePair writes a certificate and its key. What is there is kept, unless it is
// to be replaced: the key first, since whoever reads them meanwhile goes on with
// the old ones until both fit.
func writePair(cert, key string, p identity.PEM, replace bool) error {
	if replace {
		return errors.Join(identity.ReplaceFile(key, p.Key), identity.ReplaceFile(cert, p.Cert))
	}
	for _, path := range []string{cert, key} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already; it is not overwritten", path)
		}
	}
	if err := writeSecret(key, p.Key); err != nil {
		return err
	}
	return writeSecret(cert, p.Cert)
}

// writeSecret makes a file that only its owner may read.
func writeSecret(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// The kinds of certificates, and the roles that they give. Servers and etcd have
// none: they are asked, and do not ask.
const (
	kindServer = "server"
	kindEtcd   = "etcd"
)

func kinds() []string {
	out := []string{kindServer, kindEtcd}
	for _, r := range identity.Roles() {
		out = append(out, string(r))
	}
	return out
}

type issueFlags struct {
	dir, out      string
	hosts, groups []string
	validity      time.Duration
	renew         bool
}

func newCAIssue(a *app) *cobra.Command {
	var fl issueFlags
	cmd := &cobra.Command{
		Use:   "issue KIND NAME",
		Short: "Make a certificate",
		Long: `Make a certificate and its private key, NAME.crt and NAME.key. KIND is what it is for:
server (of the API), etcd, daemon, client, viewer or admin. What others connect to
needs its host names and addresses: server, etcd and daemon.

--renew replaces the files by new ones. Processes read them again by themselves.`,
		Example: `  graven ca issue server api1 --host api1.example --host 10.0.0.9
  graven ca issue daemon d1 --host 10.0.0.1
  graven ca issue client vm-host-7 --group team-a
  graven ca issue admin alice --validity 720h
  graven ca issue daemon d1 --host 10.0.0.1 --renew`,
		Args: exactly("KIND", "NAME"),
	}
	f := cmd.Flags()
	f.StringVar(&fl.dir, "dir", "./ca", "`FOLDER` of the authority")
	f.StringVar(&fl.out, "out", ".", "`FOLDER` to write the files to")
	f.StringArrayVar(&fl.hosts, "host", nil, "host name or address at which it is reached; may be repeated")
	f.StringArrayVar(&fl.groups, "group", nil, "`GROUP` that it belongs to; its members share the logs that they make; may be repeated")
	f.DurationVar(&fl.validity, "validity", identity.DefaultCertificateValidity, "for how long it is valid; the authority's own end is the latest")
	f.BoolVar(&fl.renew, "renew", false, "replace the files that are there")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		r, err := fl.request(args[0], args[1])
		if err != nil {
			return err
		}
		ca, err := openAuthority(fl.dir)
		if err != nil {
			return err
		}
		cert, key := filepath.Join(fl.out, args[1]+".crt"), filepath.Join(fl.out, args[1]+".key")
		if err := issueTo(ca, r, cert, key, fl.renew); err != nil {
			return err
		}
		return a.madeFiles([]string{cert, key})
	}
	return cmd
}

func (fl *issueFlags) request(kind, name string) (identity.Request, error) {
	r := identity.Request{Principal: identity.Principal{Name: name, Groups: fl.groups}, Hosts: fl.hosts, Validity: fl.validity}
	if !slices.Contains(kinds(), kind) {
		return r, usagef("KIND is %q: must be one of %s", kind, strings.Join(kinds(), ", "))
	}
	for _, n := range append([]string{name}, fl.groups...) {
		if err := identity.CheckName(n); err != nil {
			return r, usagef("%s", trimmed(err))
		}
	}
	if fl.validity <= 0 {
		return r, usagef("--validity must be positive")
	}
	reached := kind == kindServer || kind == kindEtcd || kind == string(identity.RoleDaemon)
	if reached && len(fl.hosts) == 0 {
		return r, usagef("--host is missing: a %s is reached by others, so name the hosts and addresses that they use", kind)
	}
	if kind != kindServer && kind != kindEtcd {
		r.Principal.Roles = []identity.Role{identity.Role(kind)}
	}
	return r, nil
}

func issueTo(ca *identity.Authority, r identity.Request, cert, key string, renew bool) error {
	p, err := ca.Issue(r)
	if err != nil {
		return trimmed(err)
	}
	if !renew {
		return withHint(writePair(cert, key, p, false), "say --renew to replace it, or --out for another folder")
	}
	if _, err := os.Stat(cert); err != nil {
		return fmt.Errorf("--renew: %w", err)
	}
	return writePair(cert, key, p, true)
}

// madeFiles says what was written.
func (a *app) madeFiles(paths []string) error {
	return a.showValue(map[string][]string{"files": paths}, func(t *table) {
		for _, p := range paths {
			t.row(p)
		}
	})
}
