package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/gravenio/graven/identity"
	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/server"
)

// aged is a certificate that was made long ago.
func aged(t *testing.T, age, left time.Duration) identity.PEM {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-age), NotAfter: time.Now().Add(left)}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return identity.PEM{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// TestCertificateThatExpiresIsAnAlarm: until its files are renewed.
func TestCertificateThatExpiresIsAnAlarm(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	p := newPassport(t)
	files := p.files(aged(t, 300*day, 20*day))
	p.who.TLS = p.open(files)
	c := start(t, setup{server: server.Options{Identities: p.who}})
	viewer := p.give("alice", time.Time{}, identity.RoleViewer)
	alarms := func() (found []openapi.Alarm) {
		t.Helper()
		rsp := withToken(t, c.url+"/v1/status", viewer)
		body, err := io.ReadAll(rsp.Body)
		if err != nil || rsp.StatusCode != http.StatusOK {
			t.Fatalf("%d %s, %v", rsp.StatusCode, body, err)
		}
		var s openapi.Status
		if err := json.Unmarshal(body, &s); err != nil {
			t.Fatal(err)
		}
		for _, a := range s.Alarms {
			if a.Kind == openapi.AlarmCertificate {
				found = append(found, a)
			}
		}
		return found
	}
	want := "this server's certificate is about to expire (" + p.who.TLS.Expiry().At.UTC().Format(time.RFC3339) + "): renew its files, it reads them again by itself"
	if got := alarms(); len(got) != 1 || got[0].Detail != want {
		t.Errorf("%+v, want %q", got, want)
	}
	renewed := aged(t, 0, 300*day)
	p.write(files.Cert, renewed.Cert)
	p.write(files.Key, renewed.Key)
	if got := alarms(); len(got) != 0 {
		t.Errorf("after it was renewed: %+v", got)
	}
}
