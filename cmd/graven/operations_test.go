package main

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/gravenio/graven/openapi"
)

const operations = "../../docs/operations.md"

// docCommand is a line of the document that is run.
type docCommand struct {
	line  int
	text  string
	until string // what it prints in the end; "" for a command that is run once
}

// commandsOf are the lines of a document's sh blocks.
func commandsOf(text string) (out []docCommand) {
	inside := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
		case inside:
			command, until, _ := strings.Cut(line, " # until: ")
			out = append(out, docCommand{i + 1, command, until})
		}
	}
	return out
}

// hosts is what the document's commands find in the shell: other hosts, and what
// starts services there.
const hosts = `
sitelog() { case $1 in graven-server-tls) echo server3.log ;; *) echo "d$2.log" ;; esac }
ssh() {
	local host=${1#h}; shift
	case $1 in
	systemctl) sitectl "$2" "$3" "$host"; return ;;
	journalctl) cat "$SITE/$(sitelog "$3" "$host")"; return ;;
	esac
	local command="$*"
	command=${command//\/var\/lib\/etcd/$SITE\/etcd1}
	command=${command//\/var\/lib\/graven/$SITE\/d$host}
	bash -euo pipefail -c "$command"
}
`

// lostDaemon is the daemon that the document gives up as lost. When it returns, it
// ends by itself.
const lostDaemon = "d4"

// sitectl asks the test that it finds in the environment to start or stop a
// process.
func sitectl() {
	rsp, err := http.Post(os.Getenv("SITECTL")+"/"+strings.Join(os.Args[1:], "/"), "", nil)
	if err == nil && rsp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", rsp.Status)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sitectl:", err)
		os.Exit(1)
	}
}

// control does what sitectl asks for.
func (s *site) control() *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		word := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
		p := s.Etcd()[0].Process
		switch word[1] {
		case "graven-agent":
			p = s.agent("d" + word[2]).Process
		case "graven-server":
			p = s.Servers()[0].Process
		case "graven-server-tls":
			p = s.Servers()[2].Process
		}
		start := p.Start
		if p.Name == lostDaemon && p.Starts() > 0 {
			start = func() error { err := p.Start(); p.Expect(); return err }
		}
		err := map[string]func() error{
			"start": start, "stop": p.Stop, "kill": p.Kill,
			"restart": func() error {
				if err := p.Stop(); err != nil {
					return err
				}
				return p.Start()
			},
		}[word[0]]()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	s.t.Cleanup(srv.Close)
	return srv
}

// Every command of docs/operations.md works, one after the other.
func TestOperations(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Parallel()
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	commands := commandsOf(string(text))
	if len(commands) < 30 {
		t.Fatalf("only %d commands were found", len(commands))
	}
	s := newSite(t, 3)
	for _, id := range []string{"d4", "d5"} {
		_, err = s.AddAgent(id, 32<<20, true, "--ttl", siteTTL.String())
		s.ok(err)
	}
	in := func(name string) string { return filepath.Join(s.Dir(), name) }
	secured, err := s.AddServer("--ttl", siteTTL.String(), "--tls-ca", in("ca/ca.crt"), "--tls-cert", in("api1.crt"),
		"--tls-key", in("api1.key"), "--audit-log", in("audit.json"))
	s.ok(err)
	u, err := url.Parse(secured.URL)
	s.ok(err)
	prelude := filepath.Join(s.Dir(), "hosts.sh")
	s.ok(os.WriteFile(prelude, []byte(hosts), 0o600))
	env := append(os.Environ(), "BASH_ENV="+prelude, "SITECTL="+s.control().URL, "SITE="+s.Dir(),
		"ETCD="+s.Endpoints()[0], "PEER="+s.Etcd()[0].Peer, "GRAVEN_API="+s.api,
		"API_HOST="+u.Hostname(), "API_TLS=https://"+u.Host)
	for _, c := range commands {
		run := func() (string, error) {
			cmd := exec.CommandContext(s.ctx(), "bash", "-euo", "pipefail", "-c", c.text)
			cmd.Dir, cmd.Env = s.Dir(), env
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		if c.until == "" {
			if out, err := run(); err != nil {
				t.Fatalf("%s:%d: %s: %v\n%s", operations, c.line, c.text, err, out)
			}
			continue
		}
		want := regexp.MustCompile(c.until)
		var out string
		eventually(t, func() string {
			return fmt.Sprintf("%s:%d: %s prints %q:\n%s", operations, c.line, c.text, c.until, out)
		}, func() bool {
			out, _ = run()
			return want.MatchString(out)
		})
	}
	s.until("the renewed certificate is shown", func() bool { return shows(t, u.Host, in("api1.crt")) })
	s.until("the log is whole in the end", func() bool {
		out, _, status := graven(t, nil, "log", "read", "l1", "--api", s.api)
		return status == 0 && out == "a record\nanother record\n"
	})
}

// shows says whether a server shows the certificate in the file.
func shows(t *testing.T, address, file string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // What it shows is compared here.
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	block, _ := pem.Decode(text)
	return bytes.Equal(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw, block.Bytes)
}

// The table of alarms has a row for each that there is, and no other.
func TestAlarmsAreExplained(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Alarms\n")
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1)
	explained := map[string]bool{}
	for _, r := range rows {
		explained[r[1]] = true
	}
	for _, kind := range doc.Components.Schemas["Alarm"].Value.Properties["kind"].Value.Enum {
		if !explained[kind.(string)] {
			t.Errorf("%s says nothing of the alarm %s", operations, kind)
		}
		delete(explained, kind.(string))
	}
	for kind := range explained {
		t.Errorf("%s explains %s, which is no alarm", operations, kind)
	}
}
