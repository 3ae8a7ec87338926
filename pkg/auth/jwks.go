package auth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A JWKS is the [KeySource] of an issuer that publishes its keys over HTTP, as a JSON
// Web Key Set (RFC 7517).
//
// It fetches the set when it is made, then at the refresh interval, and besides when a
// token names a key that it does not know: a new key is known as soon as it is used.
// However many such tokens come, that is at most once in each refresh pause; those
// that come while a fetch is under way wait for it, the others are refused at once.
// An issuer that gives its keys no ids has to wait for the interval.
//
// The set that was fetched last counts: a key that is no longer in it is no longer
// accepted. While the endpoint is away, or answers with anything but a key set, the
// keys that were known stay known, however long.
//
// Of a set those keys are used that are public, strong enough, and made for signatures
// (use, key_ops); others are passed over. A key is pinned to the algorithm that the set
// says (alg), or else to all that suit it: the one of its curve, or the six for RSA.
//
// One goroutine does all that fetching. It belongs to who called [NewJWKS], and ends
// with [JWKS.Close]. The methods may be called concurrently.
type JWKS struct {
	jwksConfig
	url    *url.URL
	known  atomic.Pointer[[]*Key] // stored by NewJWKS, then by run
	wanted chan struct{}          // wakes run; sent under mu, and has room for one
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended

	mu       sync.Mutex
	fetching chan struct{} // closed when the fetch that is under way, or due, has ended; nil: there is none
	notFor   time.Time     // no token starts a fetch before
	failed   error         // of the last fetch
	closed   bool
}

// NewJWKS returns the key set that is published at the address, an https URL (see
// [WithPlainHTTP]). It fetches it under ctx, and fails if that fails or yields no key
// that can be used (see [WithLateStart]); the error names all options that will not do.
// Close must be called on it, but not before the last use.
func NewJWKS(ctx context.Context, address string, options ...JWKSOption) (*JWKS, error) {
	j := &JWKS{
		jwksConfig: jwksDefaults(),
		wanted:     make(chan struct{}, 1),
		done:       make(chan struct{}),
	}
	if err := j.configure(address, options); err != nil {
		return nil, fmt.Errorf("new JWKS: %w", err)
	}
	j.known.Store(new([]*Key))
	err := j.refresh(ctx)
	if err == nil && len(*j.known.Load()) == 0 {
		err = errors.New("no key that can be used")
	}
	if err != nil && !j.lateStart {
		return nil, fmt.Errorf("new JWKS of %s: %w", j.url.Redacted(), err)
	}
	ctx, j.cancel = context.WithCancel(context.Background())
	go j.run(ctx)
	return j, nil
}

// Keys implements [KeySource].
func (j *JWKS) Keys(ctx context.Context, id string) ([]*Key, error) {
	if keys := matching(*j.known.Load(), id); len(keys) > 0 {
		return keys, nil
	}
	if ended := j.want(); ended != nil {
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for keys of %s: %w", j.url.Redacted(), context.Cause(ctx))
		}
	}
	// A fetch may have ended between the two looks, so this is for all.
	if keys := matching(*j.known.Load(), id); len(keys) > 0 {
		return keys, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return nil, fmt.Errorf("no key with the id %.40q is known, and the last fetch of %s failed: %w", id, j.url.Redacted(), j.failed)
	}
	return nil, fmt.Errorf("no key with the id %.40q in %s", id, j.url.Redacted())
}

// Close ends the fetching, one that is under way too. Keys that are known stay known.
// Later calls do nothing.
func (j *JWKS) Close() {
	j.cancel()
	<-j.done
}

// want asks for a fetch and returns what will be closed when it has ended. Nil: there
// was one a moment ago.
func (j *JWKS) want() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fetching == nil {
		if j.closed || time.Now().Before(j.notFor) {
			return nil
		}
		j.fetching = make(chan struct{})
		j.wanted <- struct{}{} // there is room: see begin
	}
	return j.fetching
}

// run does all fetches but the first.
func (j *JWKS) run(ctx context.Context) {
	defer close(j.done)
	defer j.finish()
	for {
		pause := time.NewTimer(j.untilNext())
		select {
		case <-ctx.Done():
		case <-pause.C:
		case <-j.wanted:
		}
		pause.Stop()
		if ctx.Err() != nil {
			return
		}
		j.refresh(ctx)
	}
}

func (j *JWKS) untilNext() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return min(j.interval, j.pause)
	}
	return j.interval
}

// refresh fetches the set, and keeps what is known if it cannot.
func (j *JWKS) refresh(ctx context.Context) error {
	j.begin()
	keys, err := j.fetch(ctx)
	if err == nil {
		j.known.Store(&keys)
	}
	j.end(err)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		j.logger.Warn("keys not fetched", "url", j.url.Redacted(), "known", len(*j.known.Load()), "error", err)
	case len(keys) == 0:
		j.logger.Warn("no key that can be used", "url", j.url.Redacted())
	}
	return err
}

// begin lets those who want a fetch wait for the one that begins.
func (j *JWKS) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fetching == nil {
		j.fetching = make(chan struct{})
	}
	select {
	case <-j.wanted: // the schedule was faster
	default:
	}
}

func (j *JWKS) end(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failed, j.notFor = err, time.Now().Add(j.pause)
	close(j.fetching)
	j.fetching = nil
}

// finish releases those who wait for a fetch that will not be.
func (j *JWKS) finish() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.fetching != nil {
		close(j.fetching)
		j.fetching = nil
	}
}
