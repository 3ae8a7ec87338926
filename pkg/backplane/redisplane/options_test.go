package redisplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

func TestURL(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"redis://host", "host:6379 db 0"},
		{"redis://", "localhost:6379 db 0"},
		{"redis://host:1234/5", "host:1234 db 5"},
		{"redis://ada:s%2Fcr%40t@[::1]:1234", "[::1]:1234 db 0 user ada password s/cr@t"},
		{"redis://:secret@host?client_name=node", "host:6379 db 0 password secret name node"},
		{"rediss://host", "host:6379 db 0 TLS host"},
		{"rediss://host?skip_verify=true", "host:6379 db 0 TLS host unverified"},
	} {
		target, err := Options{URL: test.url}.target()
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		o := target.redis
		got := fmt.Sprintf("%s db %d", o.Addr, o.DB)
		for _, field := range [][2]string{{"user", o.Username}, {"password", o.Password}, {"name", o.ClientName}} {
			if field[1] != "" {
				got += " " + field[0] + " " + field[1]
			}
		}
		if o.TLSConfig != nil {
			got += " TLS " + o.TLSConfig.ServerName
			if o.TLSConfig.InsecureSkipVerify {
				got += " unverified"
			}
		}
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.url, got, test.want)
		}
		if o.MaxRetries != -1 || !o.ContextTimeoutEnabled {
			t.Errorf("%s: retries %d, context timeout %t", test.url, o.MaxRetries, o.ContextTimeoutEnabled)
		}
	}
}

func TestClusterURL(t *testing.T) {
	for url, want := range map[string]string{
		"redis+cluster://a":                               "16 partitions",
		"rediss+cluster://a?pubsub=sharded":               "16 partitions",
		"redis+cluster://a?pubsub=sharded&partitions=1":   "1 partitions",
		"redis+cluster://a?partitions=1024&client_name=n": "1024 partitions",
		"redis+cluster://a?pubsub=classic":                "classic",
		"redis://a":                                       "classic",
	} {
		target, err := Options{URL: url}.target()
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := "classic"
		if target.layout.isSharded() {
			got = fmt.Sprintf("%d partitions", len(target.layout.tags))
		}
		if got != want || len(target.witnesses) > 0 && target.question.places != len(target.layout.tags) {
			t.Errorf("%s: got %s, %d places; want %s", url, got, target.question.places, want)
		}
	}
}

func TestSeveralHosts(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{URL: "redis+sentinel://a/main"}, "db 0 at a:26379"},
		{Options{URL: "redis+sentinel://a:1,b,[::1]:2,[::2]/my%2Fmain/3"}, "db 3 at a:1 b:26379 [::1]:2 [::2]:26379"},
		{Options{URL: "redis+sentinel://ada:s%2Fcr%40t@a,b/main?client_name=node"}, "db 0 user ada password s/cr@t name node at a:26379 b:26379"},
		{
			Options{URL: "redis+sentinel://ada:secret@a/main?sentinel_username=eve&sentinel_password=p%26w"},
			"db 0 user ada password secret at a:26379 user eve password p&w",
		},
		{
			Options{URL: "redis+sentinel://ada:secret@a/main", Username: "A", Password: "P", SentinelUsername: "S", SentinelPassword: "W"},
			"db 0 user A password P at a:26379 user S password W",
		},
		{Options{URL: "rediss+sentinel://a/main?skip_verify=true"}, "db 0 TLS unverified at a:26379 TLS unverified"},
		{Options{URL: "redis+sentinel://a/main", TLS: &tls.Config{ServerName: "x"}}, "db 0 TLS x at a:26379 TLS x"},
		{Options{URL: "redis+cluster://ada:secret@a,b:1?pubsub=classic", Password: "P"}, "db 0 user ada password P at a:6379 user ada password P b:1 user ada password P"},
	} {
		target, err := test.options.target()
		if err != nil {
			t.Errorf("%+v: %v", test.options, err)
			continue
		}
		describe := func(o *redis.Options) string {
			text := ""
			for _, field := range [][2]string{{"user", o.Username}, {"password", o.Password}, {"name", o.ClientName}} {
				if field[1] != "" && (field[0] != "name" || o.Addr == "") {
					text += " " + field[0] + " " + field[1]
				}
			}
			if o.TLSConfig != nil {
				text += strings.TrimRight(" TLS "+o.TLSConfig.ServerName, " ")
				if o.TLSConfig.InsecureSkipVerify {
					text += " unverified"
				}
			}
			return text
		}
		got := fmt.Sprintf("db %d%s at", target.redis.DB, describe(target.redis))
		for _, s := range target.witnesses {
			got += " " + s.Addr + describe(s)
			if s.MaxRetries != -1 || s.DB != 0 {
				t.Errorf("%s: retries %d, database %d", s.Addr, s.MaxRetries, s.DB)
			}
		}
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.options.URL, got, test.want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"", "scheme"},
		{"localhost:6379", "scheme"},
		{"http://host", `scheme "http"`},
		{"unix:///run/redis.sock", `scheme "unix"`},
		{"redis+cluster://host?pubsub=pattern", "pubsub is sharded"},
		{"redis+cluster://host?pubsub=classic&partitions=16", "no partitions"},
		{"redis+cluster://host?partitions=0", "none of 1 to 1024"},
		{"redis+cluster://host?partitions=1025", "none of 1 to 1024"},
		{"redis+cluster://host?partitions=many", "none of 1 to 1024"},
		{"redis://host?partitions=16", "a parameter that is none of"},
		{"redis+cluster://host/1?pubsub=classic", "no databases"},
		{"redis+cluster://:secret@?pubsub=classic", "not host:port"},
		{"redis+sometimes://host", "scheme"},
		{"redis+sentinel://host", "name of the master"},
		{"redis+sentinel://host/", "name of the master"},
		{"redis+sentinel://host?client_name=main", "name of the master"},
		{"redis+sentinel://:secret@/main", "not host:port"},
		{"redis+sentinel://:secret@a,/main", "not host:port"},
		{"redis+sentinel://:secret@a:0/main", "not host:port"},
		{"redis+sentinel://:secret@a:b/main", "not host:port"},
		{"redis+sentinel://:secret@::1/main", "not host:port"},
		{"redis+sentinel://:secret@a,b,a:26379/main", "there twice"},
		{"redis+sentinel://:se/cret@a,b", "not host:port"},
		{"redis+sentinel://:se/cret@a,b/main", "database number"},
		{"redis+sentinel://:secret%zz@a/main", "percent-encoded"},
		{"redis+sentinel://:secret@a/main/database", "database number"},
		{"redis+sentinel://:secret@a/main?master_name=x", "none of client_name, skip_verify"},
		{"redis://host?sentinel_password=secret", "none of client_name, skip_verify"},
		{"http+sentinel://a/main", "scheme"},
		{"redis://:secret@host/database", "database number"},
		{"redis://:12/secret@host", "database number"},
		{"redis://:secret@host/1/2", "database number"},
		{"redis://:se/cret@host", "percent-encoded"},
		{"redis://:secret%zz@host", "percent-encoded"},
		{"redis://:secret@host:port", "percent-encoded"},
		{"redis://host?max_retries=3", "none of client_name, skip_verify"},
		{"redis://:12?secret@host", "none of client_name, skip_verify"},
		{"rediss://host?skip_verify=secret", "parameters"},
	} {
		_, err := New(Options{URL: test.name})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: the error tells a secret: %v", test.name, err)
		}
	}
	for _, o := range []Options{
		{DialTimeout: -1}, {PublishTimeout: -1}, {SubscribeTimeout: -1}, {ProbeInterval: -1}, {MaxQueuedBytes: -1}, {MaxQueuedMessages: -1},
	} {
		o.URL = "redis://localhost"
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "negative") {
			t.Errorf("%+v: got %v", o, err)
		}
	}
}

func TestTLS(t *testing.T) {
	address := terminateTLS(t, redistest.Start(t))
	n := startDeaf(t, "rediss://"+address)
	await.Until(t, "the node says why", func() error {
		if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), "certificate") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	n = start(t, "rediss://"+address+"?skip_verify=true")
	n.join(t, "a")
	n.send(t, "hi", "a")
	n.expect(t, "a hi")
}

// A handshake that does not go on is given up with the node, and holds nobody up.
func TestTLSWithoutAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // takes connections by the kernel alone
	n := startDeaf(t, "rediss://"+listener.Addr().String(), func(o *Options) {
		o.DialTimeout, o.PublishTimeout = time.Hour, time.Hour
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.Publish(ctx, nil, "a"); err == nil {
		t.Error("published")
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		n.Close()
	}()
	select {
	case <-closed:
	case <-time.After(await.Deadline):
		t.Fatal("Close waits for the handshake")
	}
}

// terminateTLS stands before the server with a certificate that nobody knows, and
// returns its address.
func terminateTLS(t *testing.T, s *redistest.Server) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		group.Wait()
	})
	group.Go(func() {
		for {
			outer, err := listener.Accept()
			if err != nil {
				return
			}
			inner, err := net.Dial("tcp", s.Addr())
			if err != nil {
				outer.Close()
				continue
			}
			for _, conns := range [][2]net.Conn{{outer, inner}, {inner, outer}} {
				group.Go(func() {
					io.Copy(conns[0], conns[1])
					outer.Close()
					inner.Close()
				})
			}
		}
	})
	return listener.Addr().String()
}

// What the Redis library logs is for those who look for it.
func TestLibraryLogger(t *testing.T) {
	for level, want := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var log strings.Builder
		library{slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))}.Printf(t.Context(), "pool: %d", 42)
		if strings.Contains(log.String(), `message="pool: 42"`) != want {
			t.Errorf("at level %v it logs %q", level, log.String())
		}
	}
}
