package redisplane

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A link is a client of the Redis library with the one socket that it uses at a time.
//
// By itself, the library connects again where that hides a loss, and waits for its
// locks and deadlines before it closes a socket. A link has the socket in its hand: it
// says whether another may be dialed, and closes it at once.
type link struct {
	client    *redis.Client
	site      *site // says where to dial
	dialer    net.Dialer
	tls       *tls.Config // nil: no TLS
	redialing bool
	ctx       context.Context // ends with cut; its cause is the reason
	end       context.CancelCauseFunc

	mu    sync.Mutex
	conn  net.Conn       // the last one dialed
	dials sync.WaitGroup // counted up under mu, and never once ctx has ended
}

var (
	errOneSocket = errors.New("connection lost")
	errClosing   = errors.New("connection closed")
)

// newLink returns a link, which connects when it is first used. With redialing, it does
// so again when the library finds, before it writes, that the other side has closed the
// socket. Without, it has one socket in its life.
func newLink(s *site, redialing bool) *link {
	l := &link{
		site: s,
		dialer: net.Dialer{
			Timeout:         s.options.DialTimeout,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3},
		},
		tls:       s.options.TLSConfig,
		redialing: redialing,
	}
	l.ctx, l.end = context.WithCancelCause(context.Background())
	o := *s.options
	o.Dialer, o.OnConnect = l.dial, l.greet
	l.client = redis.NewClient(&o)
	return l
}

// cut closes the socket, whatever the library is doing with it, and lets no other be
// dialed. The first reason stays.
func (l *link) cut(reason error) {
	l.end(reason)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
	}
}

// close cuts the link, lets go of the client, and returns when nothing is dialed any
// more.
func (l *link) close() {
	l.cut(errClosing)
	l.client.Close()
	l.dials.Wait()
	l.site.exit(l)
}

// isCut reports whether the link is of no more use.
func (l *link) isCut() bool { return l.ctx.Err() != nil }

// cause returns why the link was cut, or else err, which is what came of it.
func (l *link) cause(err error) error {
	if reason := context.Cause(l.ctx); reason != nil {
		return reason
	}
	return err
}

// dial is the library's way to a socket. The library's own dialer goes on dialing when
// nobody waits for it any more.
func (l *link) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if err := l.mayDial(); err != nil {
		return nil, err
	}
	defer l.dials.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()

	addr, err := l.site.locate(ctx)
	if err != nil {
		return nil, l.cause(err)
	}
	conn, err := l.dialTLS(ctx, network, addr)
	if err != nil {
		return nil, l.cause(err)
	}
	if err := l.site.enter(l, addr); err != nil {
		conn.Close()
		return nil, l.cause(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		conn.Close()
		return nil, context.Cause(l.ctx)
	}
	l.conn = conn
	return conn, nil
}

// mayDial returns nil if another socket may be dialed, and counts it in dials then.
func (l *link) mayDial() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ctx.Err() != nil:
		return context.Cause(l.ctx)
	case l.conn != nil && !l.redialing:
		return errOneSocket
	}
	l.dials.Add(1)
	return nil
}

// greet is called by the library on a new connection, before anything is sent on it. The
// library unwraps its error, so the reason is left in the link.
func (l *link) greet(ctx context.Context, conn *redis.Conn) error {
	err := l.site.greet(ctx, conn)
	if err != nil {
		l.cut(err)
	}
	return err
}

func (l *link) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	if l.tls == nil {
		return l.dialer.DialContext(ctx, network, addr)
	}
	dialer := tls.Dialer{NetDialer: &l.dialer, Config: l.tls}
	return dialer.DialContext(ctx, network, addr)
}
