package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"

	"github.com/heliograph/heliograph/internal/await"
)

// An issuer publishes keys, on loopback.
type issuer struct {
	*httptest.Server
	fetches atomic.Int32
	handler atomic.Pointer[http.HandlerFunc]
}

func newIssuer(t *testing.T) *issuer {
	i := new(issuer)
	i.answer(func(http.ResponseWriter, *http.Request) {})
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		(*i.handler.Load())(w, r)
	}))
	i.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) answer(h http.HandlerFunc) { i.handler.Store(&h) }

func (i *issuer) publish(keys ...string) { i.answer(answering(http.StatusOK, keySet(keys...))) }

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// jwks returns the issuer's key set, which is refreshed only when the options say so.
func (i *issuer) jwks(t *testing.T, options ...JWKSOption) *JWKS {
	t.Helper()
	j, err := NewJWKS(t.Context(), i.URL, append([]JWKSOption{
		WithHTTPClient(i.Client()), WithLogger(slog.New(slog.DiscardHandler)),
		WithRefreshInterval(time.Hour), WithRefreshPause(time.Hour),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

// endPause lets the next token with an unknown key start a fetch.
func (j *JWKS) endPause() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notFor = time.Time{}
}

func keySet(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// jwk is the signer's key as issuers publish it, with other members on top.
func (s signer) jwk(t testing.TB, id string, other ...string) string {
	t.Helper()
	fields := jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: true},
		Metadata: jwkset.JWKMetadataOptions{KID: id},
	}
	k, err := jwkset.NewJWKFromKey(s.public, fields)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(k.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append([]string{strings.TrimSuffix(string(b), "}")}, other...), ",") + "}"
}

// signed is a token of the signer that names the key.
func (s signer) signed(t testing.TB, kid string) string {
	t.Helper()
	k := s.token()
	k.header["kid"] = kid
	return k.sign(t)
}

func TestJWKSOfEveryAlgorithm(t *testing.T) {
	i := newIssuer(t)
	var keys []string
	for _, s := range signers() {
		keys = append(keys, s.jwk(t, s.algorithm))
	}
	i.publish(keys...)
	a := newJWT(t, WithKeys(i.jwks(t)))
	for _, s := range signers() {
		signed := s.signed(t, s.algorithm)
		id, err := authenticate(a, signed)
		switch {
		case strings.HasPrefix(s.algorithm, "HS"): // whoever reads the set could sign
			refused(t, id, err, "no key with the id", signed)
		case err != nil || id.Subject != "ada":
			t.Errorf("%s: got %+v, %v", s.algorithm, id, err)
		}
	}
}

func TestJWKSRotation(t *testing.T) {
	old, next := signerOf(t, "ES256"), signerOf(t, "EdDSA")
	byOld, byNext := old.signed(t, "old"), next.signed(t, "next")
	i := newIssuer(t)
	i.publish(old.jwk(t, "old"))
	j := i.jwks(t)
	a := newJWT(t, WithKeys(j))
	if _, err := authenticate(a, byOld); err != nil {
		t.Fatalf("old: %v", err)
	}
	j.endPause()
	id, err := authenticate(a, byNext)
	refused(t, id, err, `no key with the id "next" in `+i.URL, byNext)

	i.publish(old.jwk(t, "old"), next.jwk(t, "next"))
	id, err = authenticate(a, byNext)
	refused(t, id, err, `no key with the id "next" in `+i.URL, byNext) // during the pause
	j.endPause()
	for _, token := range []string{byNext, byOld} {
		if _, err := authenticate(a, token); err != nil {
			t.Fatalf("while both are published: %v", err)
		}
	}
	if n := i.fetches.Load(); n != 3 {
		t.Errorf("%d fetches, want 3", n)
	}
}

func TestJWKSWithdrawal(t *testing.T) {
	old, next := signerOf(t, "ES256"), signerOf(t, "EdDSA")
	byOld, byNext := old.signed(t, "old"), next.signed(t, "next")
	i := newIssuer(t)
	i.publish(old.jwk(t, "old"), next.jwk(t, "next"))
	a := newJWT(t, WithKeys(i.jwks(t, WithRefreshInterval(shortestDuration))))
	if _, err := authenticate(a, byOld); err != nil {
		t.Fatalf("while both are published: %v", err)
	}

	i.publish(next.jwk(t, "next"))
	await.Until(t, "the withdrawn key is refused", func() error {
		if _, err := authenticate(a, byOld); err == nil {
			return errors.New("it is accepted")
		}
		return nil
	})
	if _, err := authenticate(a, byNext); err != nil {
		t.Errorf("next: %v", err)
	}

	i.publish()
	await.Until(t, "all keys are withdrawn", func() error {
		if _, err := authenticate(a, byNext); err == nil {
			return errors.New("next is accepted")
		}
		return nil
	})
}

func TestJWKSOutage(t *testing.T) {
	s, next := signerOf(t, "ES256"), signerOf(t, "EdDSA")
	known, unknown := s.signed(t, "1"), next.signed(t, "2")
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		reason string
	}{
		{"error", answering(http.StatusInternalServerError, keySet(next.jwk(t, "2"))), "answered 500 Internal Server Error, want 200"},
		{"error page", answering(http.StatusOK, "<html>Sorry"), "invalid character '<'"},
		{"nothing", answering(http.StatusOK, ""), "unexpected end of JSON input"},
		{"cut short", answering(http.StatusOK, keySet(next.jwk(t, "2"))[:100]), "unexpected end of JSON input"},
		{"no key set", answering(http.StatusOK, "{}"), `no "keys" in it`},
		{"null", answering(http.StatusOK, `{"keys":null}`), `no "keys" in it`},
		{"an object", answering(http.StatusOK, `{"keys":{}}`), "cannot unmarshal object"},
		{"too many keys", answering(http.StatusOK, keySet(slices.Repeat([]string{"{}"}, 101)...)), "101 keys, limit 100"},
		{"huge", answering(http.StatusOK, keySet(next.jwk(t, "2"))+strings.Repeat(" ", 1<<20)), "key set has more than 1048576 bytes"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			for blank := make([]byte, 64<<10); ; {
				if _, err := w.Write(blank); err != nil {
					return
				}
			}
		}, "key set has more than 1048576 bytes"},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"redirected from https", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1/", http.StatusFound)
		}, "redirected to http://127.0.0.1/, which is no https URL"},
		{"redirected for ever", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/", http.StatusFound)
		}, "redirected more than 10 times"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t)
			i.publish(s.jwk(t, "1"))
			j := i.jwks(t)
			a := newJWT(t, WithKeys(j))

			i.answer(tt.answer)
			j.endPause()
			id, err := authenticate(a, unknown)
			refused(t, id, err, `no key with the id "2" is known, and the last fetch of `+i.URL+" failed: ", unknown)
			if !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %q, want %q in it", err, tt.reason)
			}
			if _, err := authenticate(a, known); err != nil {
				t.Errorf("what was known no longer is: %v", err)
			}

			i.publish(next.jwk(t, "2"))
			j.endPause()
			if _, err := authenticate(a, unknown); err != nil {
				t.Errorf("once it is back: %v", err)
			}
		})
	}
}

func TestJWKSStart(t *testing.T) {
	s := signerOf(t, "ES256")
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		reason string
	}{
		{"away", answering(http.StatusNotFound, ""), "answered 404 Not Found"},
		{"no keys", answering(http.StatusOK, keySet()), "no key that can be used"},
		{"secret keys", answering(http.StatusOK, keySet(signerOf(t, "HS256").jwk(t, "1"))), "no key that can be used"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t)
			i.answer(tt.answer)
			_, err := NewJWKS(t.Context(), i.URL, WithHTTPClient(i.Client()), WithLogger(slog.New(slog.DiscardHandler)))
			if err == nil || !strings.Contains(err.Error(), tt.reason) || !strings.Contains(err.Error(), i.URL) {
				t.Errorf("got %v, want %q", err, tt.reason)
			}

			j := i.jwks(t, WithLateStart())
			a := newJWT(t, WithKeys(j))
			for _, kid := range []string{"1", ""} {
				j.endPause()
				signed := s.signed(t, kid)
				id, err := authenticate(a, signed)
				refused(t, id, err, "no key with the id", signed)
			}
			i.publish(s.jwk(t, "1"))
			j.endPause()
			for _, kid := range []string{"", "1"} {
				if _, err := authenticate(a, s.signed(t, kid)); err != nil {
					t.Errorf("once it is there: %v", err)
				}
			}
		})
	}
}

// However many tokens name keys that there are not, the issuer hears of it once.
func TestJWKSFlood(t *testing.T) {
	s := signerOf(t, "EdDSA")
	i := newIssuer(t)
	i.publish(s.jwk(t, "1"))
	j := i.jwks(t)
	a := newJWT(t, WithKeys(j))
	known := s.signed(t, "1")
	flood := func(round int) {
		var wg sync.WaitGroup
		defer wg.Wait()
		for n := range 100 {
			unknown := s.signed(t, fmt.Sprint("made up ", round, " ", n))
			wg.Go(func() {
				if _, err := authenticate(a, unknown); !errors.Is(err, ErrUnauthenticated) {
					t.Errorf("made up: %v", err)
				}
				if _, err := authenticate(a, known); err != nil {
					t.Errorf("known: %v", err)
				}
			})
		}
	}
	const pauseHasPassed = 1
	for round, want := range []int32{0, pauseHasPassed, 0, pauseHasPassed} {
		if want == pauseHasPassed {
			j.endPause()
		}
		before := i.fetches.Load()
		flood(round)
		if n := i.fetches.Load() - before; n != want {
			t.Errorf("round %d: %d fetches, want %d", round, n, want)
		}
	}
}

// A burst of tokens that name a new key shares one fetch, and all are accepted.
func TestJWKSBurst(t *testing.T) {
	s := signerOf(t, "EdDSA")
	signed := s.signed(t, "new")
	i := newIssuer(t)
	j := i.jwks(t, WithLateStart())
	j.endPause()
	a := newJWT(t, WithKeys(j))
	before := i.fetches.Load()
	release := make(chan struct{})
	i.answer(func(w http.ResponseWriter, r *http.Request) {
		<-release
		answering(http.StatusOK, keySet(s.jwk(t, "new")))(w, r)
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := authenticate(a, signed); err != nil {
				t.Error(err)
			}
		})
	}
	await.Until(t, "a fetch is under way", func() error {
		if i.fetches.Load() == before {
			return errors.New("there is none")
		}
		return nil
	})
	close(release)
	wg.Wait()
	if n := i.fetches.Load() - before; n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// A fetch that begins as another is asked for is that one.
func TestJWKSFetchThatWasDue(t *testing.T) {
	i := newIssuer(t)
	i.publish(signerOf(t, "EdDSA").jwk(t, "1"))
	j := i.jwks(t)
	j.Close() // so that nothing but this test fetches
	j.closed = false
	j.endPause()
	ended := j.want()
	if err := j.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("who asked is still waiting")
	}
	if len(j.wanted) != 0 {
		t.Error("another fetch is due")
	}
}

// hang answers no request before the client gives up, and says when one is there.
func (i *issuer) hang() (reached <-chan struct{}) {
	c := make(chan struct{}, 100)
	i.answer(func(_ http.ResponseWriter, r *http.Request) {
		c <- struct{}{}
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // an answer might still reach a client that is about to leave
	})
	return c
}

func TestJWKSThatHangs(t *testing.T) {
	s := signerOf(t, "EdDSA")
	i := newIssuer(t)

	i.hang()
	_, err := NewJWKS(t.Context(), i.URL, WithHTTPClient(i.Client()), WithFetchTimeout(shortestDuration), WithLogger(slog.New(slog.DiscardHandler)))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("start: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewJWKS(ctx, i.URL, WithHTTPClient(i.Client())); !errors.Is(err, context.Canceled) {
		t.Errorf("start that was cancelled: %v", err)
	}

	i.publish(s.jwk(t, "1"))
	j := i.jwks(t, WithFetchTimeout(time.Hour))
	j.endPause()
	a := newJWT(t, WithKeys(j))
	reached := i.hang()

	// A request that ends does not take the fetch with it, which others wait for.
	ctx, cancel = context.WithCancel(t.Context())
	gone, waiting := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := a.Verify(ctx, s.signed(t, "2"))
		gone <- err
	}()
	<-reached
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("request that ended: %v", err)
	}
	go func() {
		_, err := a.Verify(context.Background(), s.signed(t, "2"))
		waiting <- err
	}()

	j.Close()
	select {
	case <-j.done:
	default:
		t.Error("Close did not wait for the fetch to end")
	}
	j.Close()
	if err := <-waiting; !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("request that waited: %v", err)
	}
	j.endPause()
	before := i.fetches.Load()
	ctx, cancel = context.WithTimeout(t.Context(), await.Deadline)
	defer cancel()
	if _, err := a.Verify(ctx, s.signed(t, "3")); !errors.Is(err, ErrUnauthenticated) || ctx.Err() != nil || i.fetches.Load() != before {
		t.Errorf("after Close: %v, %d fetches", err, i.fetches.Load()-before)
	}
	if _, err := a.Verify(t.Context(), s.signed(t, "1")); err != nil {
		t.Errorf("known key after Close: %v", err)
	}
}

func TestNewJWKSRefuses(t *testing.T) {
	for _, tt := range []struct {
		address string
		options []JWKSOption
		want    string
	}{
		{"http://issuer/keys", nil, "address http://issuer/keys is no https URL"},
		{"https://", nil, "is no https URL"},
		{"keys", nil, "address keys is no https URL"},
		{"ftp://issuer/keys", []JWKSOption{WithPlainHTTP()}, "is no https URL"},
		{"http://ada:secret@issuer/", nil, "address http://ada:xxxxx@issuer/ is no"},
		{"https://ada:secret@issuer/%zz", nil, "address is no URL"},
		{"https://issuer/", []JWKSOption{WithHTTPClient(nil), WithLogger(nil)}, "HTTP client is nil\nlogger is nil"},
		{"https://issuer/", []JWKSOption{WithAlgorithms()}, "no algorithm"},
		{"https://issuer/", []JWKSOption{WithAlgorithms("none")}, `unknown algorithm "none", want ES256 or`},
		{"https://issuer/", []JWKSOption{WithFetchTimeout(0)}, "fetch time-out 0s is under 50ms"},
		{"https://issuer/", []JWKSOption{WithRefreshInterval(-1)}, "refresh interval -1ns is under 50ms"},
		{"https://issuer/", []JWKSOption{WithRefreshPause(0)}, "refresh pause 0s is under 50ms"},
	} {
		j, err := NewJWKS(t.Context(), tt.address, tt.options...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, %v, want %q", tt.address, j, err, tt.want)
		}
	}
}

func TestJWKSOverPlainHTTP(t *testing.T) {
	s := signerOf(t, "EdDSA")
	plain := httptest.NewServer(answering(http.StatusOK, keySet(s.jwk(t, "1"))))
	defer plain.Close()
	j, err := NewJWKS(t.Context(), plain.URL, WithPlainHTTP())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := authenticate(newJWT(t, WithKeys(j)), s.signed(t, "1")); err != nil {
		t.Error(err)
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Fetches come at the refresh interval, and after a failure at the refresh pause.
func TestJWKSSchedule(t *testing.T) {
	s := signerOf(t, "EdDSA")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		var away atomic.Bool
		client := &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			if away.Load() {
				return nil, errors.New("no route to host")
			}
			recorded := httptest.NewRecorder()
			answering(http.StatusOK, keySet(s.jwk(t, "1")))(recorded, r)
			return recorded.Result(), nil
		})}
		j, err := NewJWKS(t.Context(), "https://issuer/keys", WithHTTPClient(client), WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		unknown := func() {
			if keys, err := j.Keys(t.Context(), "2"); err == nil {
				t.Errorf("found %v", keys)
			}
		}
		sleepTo := func(d time.Duration) {
			time.Sleep(time.Until(start.Add(d)))
			synctest.Wait()
		}
		unknown()                // too soon after the first fetch
		sleepTo(9 * time.Second) // still
		unknown()
		sleepTo(10 * time.Second) // 0:10
		unknown()
		unknown()
		sleepTo(15*time.Minute + 11*time.Second) // the interval has begun again: 15:10
		away.Store(true)
		sleepTo(30*time.Minute + 29*time.Second) // 30:10, then 30:20
		away.Store(false)
		sleepTo(45*time.Minute + 31*time.Second) // 30:30, then 45:30
		j.Close()
		time.Sleep(time.Hour)

		want := []time.Duration{0}
		for _, d := range []string{"10s", "15m10s", "30m10s", "30m20s", "30m30s", "45m30s"} {
			parsed, err := time.ParseDuration(d)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, parsed)
		}
		if !slices.Equal(at, want) {
			t.Errorf("fetched at %v, want %v", at, want)
		}
	})
}
