package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
)

// serverVariable names the environment variable that holds the program to start in place of
// redis-server, such as valkey-server. Without it, valkey-server is started where there is no
// redis-server.
const serverVariable = "HELIOGRAPH_REDIS_SERVER"

// program returns the path of the server to start.
func program() (string, error) {
	if name := os.Getenv(serverVariable); name != "" {
		return exec.LookPath(name)
	}
	path, err := exec.LookPath("redis-server")
	if err == nil {
		return path, nil
	}
	if valkey, errValkey := exec.LookPath("valkey-server"); errValkey == nil {
		return valkey, nil
	}
	return "", err
}

// A Server is a redis-server process of its own, on the loopback interface, that keeps
// nothing on disk. Its methods belong to the goroutine of the test.
type Server struct {
	t         testing.TB
	program   string
	port      int
	arguments []string // of redis-server
	log       string   // path of the log file
	process   *exec.Cmd
	running   bool
	client    *redis.Client
}

// Start starts a server and waits until it answers. The arguments are added to those
// of redis-server, such as "--requirepass", "secret". The server is stopped at the end
// of the test. If there is no server to start, the test fails.
func Start(t testing.TB, arguments ...string) *Server {
	t.Helper()
	s := newServer(t)
	s.arguments = append([]string{
		"--port", strconv.Itoa(s.port),
		"--bind", "127.0.0.1",
		"--dir", filepath.Dir(s.log),
		"--logfile", s.log,
		"--save", "",
		"--appendonly", "no",
		"--daemonize", "no",
	}, arguments...)
	s.Restart()
	return s
}

// newServer returns a server that has not been started, and has no arguments yet.
func newServer(t testing.TB) *Server {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatalf("this test needs redis-server or valkey-server, 7 or later, in the PATH (such as: apt-get install redis-server) or named by %s: %v", serverVariable, err)
	}
	s := &Server{t: t, program: path, port: freePort(t), log: filepath.Join(t.TempDir(), "redis.log")}
	t.Cleanup(func() {
		if s.client != nil {
			s.client.Close()
		}
		if s.running {
			s.Kill()
		}
	})
	return s
}

// Addr returns the host and the port that the server listens on, also while it is
// stopped.
func (s *Server) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// URL returns the server's address as redis://, without credentials.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Stop ends the server in the orderly way: it closes its connections.
func (s *Server) Stop() {
	s.t.Helper()
	s.end(syscall.SIGTERM)
}

// Kill ends the server at once.
func (s *Server) Kill() {
	s.t.Helper()
	s.end(syscall.SIGKILL)
}

// Restart starts the server, which has been stopped or killed, on the same port, and
// waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	if s.running {
		s.t.Fatal("redis-server is running already")
	}
	s.process = exec.Command(s.program, s.arguments...)
	s.process.SysProcAttr = dieWithParent()
	if err := s.process.Start(); err != nil {
		s.t.Fatalf("start redis-server: %v", err)
	}
	s.running = true
	await.Until(s.t, "redis-server answers", func() error {
		if err := s.answers(); err != nil {
			return fmt.Errorf("%w; its log: %s", err, s.logTail())
		}
		return nil
	})
}

// Pause stops the process without ending it: the kernel still takes connections and
// bytes for it, but nothing is answered until Resume.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume lets a paused server go on.
func (s *Server) Resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

// Log returns what the server has logged.
func (s *Server) Log() string {
	s.t.Helper()
	log, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatalf("read the log of redis-server: %v", err)
	}
	return string(log)
}

// Client returns a client for the test's own look at the server; it has no credentials.
// It is closed at the end of the test.
func (s *Server) Client() *redis.Client {
	if s.client == nil {
		s.client = redis.NewClient(&redis.Options{Addr: s.Addr(), PoolSize: 2})
	}
	return s.client
}

// Channels returns the names of all channels that have subscribers, sorted.
func (s *Server) Channels(t testing.TB) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	channels, err := s.Client().PubSubChannels(ctx, "*").Result()
	if err != nil {
		t.Fatalf("list channels: %v", err)
	}
	slices.Sort(channels)
	return channels
}

// Subscribers returns how many connections are subscribed to the channel.
func (s *Server) Subscribers(t testing.TB, channel string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	counts, err := s.Client().PubSubNumSub(ctx, channel).Result()
	if err != nil {
		t.Fatalf("count subscribers of %q: %v", channel, err)
	}
	return int(counts[channel])
}

func (s *Server) end(signal syscall.Signal) {
	s.t.Helper()
	s.signal(signal)
	if signal != syscall.SIGKILL {
		s.signal(syscall.SIGCONT) // it may be paused
	}
	s.process.Wait()
	s.running = false
}

func (s *Server) signal(signal syscall.Signal) {
	s.t.Helper()
	if !s.running {
		s.t.Fatal("redis-server is not running")
	}
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatalf("signal redis-server: %v", err)
	}
}

// answers returns nil if the server takes commands. Any reply will do: it may want a
// password first.
func (s *Server) answers() error {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	reply := make([]byte, 64)
	n, err := conn.Read(reply)
	if err != nil {
		return err
	}
	if reply = reply[:n]; !bytes.HasPrefix(reply, []byte("+PONG")) && !bytes.HasPrefix(reply, []byte("-NOAUTH")) {
		return fmt.Errorf("the reply to PING is %q", reply)
	}
	return nil
}

func (s *Server) logTail() string {
	log, err := os.ReadFile(s.log)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "none yet"
	case err != nil:
		return err.Error()
	}
	return string(log[max(0, len(log)-1000):])
}

// freePort returns a port that was free just now. It is one below those that the system
// gives to outgoing connections, of which other tests make thousands meanwhile.
func freePort(t testing.TB) int {
	t.Helper()
	const first, count, attempts = 12000, 20000, 100
	var err error
	for range attempts {
		port := first + rand.N(count)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatalf("find a free port: %v", err)
	return 0
}
