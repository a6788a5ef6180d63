package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/server"
	"github.com/gravenio/graven/store"
)

// defaultRate is how many requests a second one caller may make.
const defaultRate = 1000

// identityFlags are those of a server about who may do what.
type identityFlags struct {
	tokens   string
	jwt      identity.JWTOptions
	etcdTLS  identity.Files
	hosts    []string
	rate     int
	insecure bool

	etcdLoaded *identity.TLS // nil until etcd has read etcdTLS, or without
}

func (fl *identityFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&fl.tokens, "tokens", "", "`FILE` of hashed tokens that are believed; see `graven token`")
	f.StringVar(&fl.jwt.Keys, "jwt-keys", "", "`FILE` of the public keys (JSON Web Key Set) that JSON Web Tokens are signed with")
	f.StringVar(&fl.jwt.Issuer, "jwt-issuer", "", "who must have made them (iss)")
	f.StringVar(&fl.jwt.Audience, "jwt-audience", "", "whom they must be for (aud)")
	f.StringVar(&fl.jwt.RolesClaim, "jwt-roles-claim", "graven_roles", "claim that lists the roles")
	f.StringVar(&fl.jwt.GroupsClaim, "jwt-groups-claim", "graven_groups", "claim that lists the groups")
	f.StringVar(&fl.etcdTLS.CA, "etcd-ca", "", "`FILE` (PEM) of the authority of etcd's certificates")
	f.StringVar(&fl.etcdTLS.Cert, "etcd-cert", "", "`FILE` (PEM) of the certificate to show to etcd")
	f.StringVar(&fl.etcdTLS.Key, "etcd-key", "", "`FILE` (PEM) of its private key")
	f.StringSliceVar(&fl.hosts, "hosts", nil, "host names and addresses that browsers reach the server under (default any)")
	f.IntVar(&fl.rate, "rate-limit", defaultRate, "requests a second that one caller may make; 0 for any number")
	insecureFlag(f, &fl.insecure)
}

// options are the server's. It asks nobody who he is if nothing says how.
func (fl *identityFlags) options(a *app, log *slog.Logger) (server.Options, error) {
	o := server.Options{Logger: log, Version: version, Hosts: fl.hosts, RateLimit: fl.rate}
	if fl.rate < 0 {
		return o, usagef("--rate-limit is %d: must be 0 or more", fl.rate)
	}
	who := &identity.Authenticator{}
	var err error
	if a.files.Cert != "" {
		if who.TLS, err = a.tls(false, log); err != nil {
			return o, err
		}
		if o.TLS, err = who.TLS.Server(tls.RequestClientCert); err != nil {
			return o, trimmed(err)
		}
	}
	if fl.tokens != "" {
		if who.Tokens, err = identity.LoadTokens(fl.tokens, log); err != nil {
			return o, withHint(trimmed(err), "make the file with `graven token new NAME --role ROLE --file %s`", shellWord(fl.tokens))
		}
	}
	if fl.jwt.Keys != "" || fl.jwt.Issuer != "" || fl.jwt.Audience != "" {
		if fl.jwt.Keys == "" || fl.jwt.Issuer == "" || fl.jwt.Audience == "" {
			return o, usagef("--jwt-keys, --jwt-issuer and --jwt-audience go together: name all three")
		}
		if who.JWTs, err = identity.LoadJWTs(fl.jwt, log); err != nil {
			return o, fmt.Errorf("--jwt-keys: %w", trimmed(err))
		}
	}
	switch {
	case who.TLS == nil && who.Tokens == nil && who.JWTs == nil:
		return o, nil
	case a.files.CA == "" && who.Tokens == nil && who.JWTs == nil:
		return o, usagef("with TLS everybody is asked who he is, and nothing says whom to believe: give --tls-ca, --tokens or --jwt-keys")
	}
	o.Identities = who
	return o, nil
}

// etcd is how to reach it.
func (fl *identityFlags) etcd(log *slog.Logger) (store.DialOptions, error) {
	o := store.DialOptions{Logger: log}
	if fl.etcdTLS.Empty() {
		return o, nil
	}
	t, err := identity.Load(fl.etcdTLS, log)
	if err != nil {
		return o, withHint(trimmed(err), "see --etcd-ca, --etcd-cert and --etcd-key")
	}
	o.TLS, fl.etcdLoaded = t.Client, t
	return o, nil
}
