package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// A JWKSOption adjusts a [JWKS]. Options that cannot be met make [NewJWKS] fail.
type JWKSOption func(*jwksConfig) error

type jwksConfig struct {
	client     *http.Client
	timeout    time.Duration
	interval   time.Duration
	pause      time.Duration
	algorithms []string // empty: all
	plainHTTP  bool
	lateStart  bool
	logger     *slog.Logger
}

func jwksDefaults() jwksConfig {
	// Fetches are far apart, so a connection is not worth keeping.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	return jwksConfig{
		client:   &http.Client{Transport: transport},
		timeout:  5 * time.Second,
		interval: 15 * time.Minute,
		pause:    10 * time.Second,
		logger:   slog.Default(),
	}
}

// WithHTTPClient sets what fetches the key set, for an endpoint behind a proxy or with
// a certificate of one's own authority. The client is not changed; redirects that it
// would follow away from https are refused all the same. The default is a client with
// Go's default transport.
func WithHTTPClient(client *http.Client) JWKSOption {
	return func(c *jwksConfig) error {
		if client == nil {
			return errors.New("HTTP client is nil")
		}
		c.client = client
		return nil
	}
}

// WithFetchTimeout sets how long one fetch may take, and thereby how long a token with
// an unknown key may have to wait. The default is 5s. Less than 50ms is refused.
func WithFetchTimeout(d time.Duration) JWKSOption {
	return duration("fetch time-out", d, func(c *jwksConfig) *time.Duration { return &c.timeout })
}

// WithRefreshInterval sets how often the set is fetched in any case, which is how long
// a key that the issuer has withdrawn is accepted at most while the endpoint answers.
// The default is 15 minutes. After a failed fetch the next one comes after the refresh
// pause, if that is shorter. Less than 50ms is refused.
func WithRefreshInterval(d time.Duration) JWKSOption {
	return duration("refresh interval", d, func(c *jwksConfig) *time.Duration { return &c.interval })
}

// WithRefreshPause sets how long no token with an unknown key starts another fetch
// after one has ended. Anybody can make up such tokens, so this is what protects the
// issuer's endpoint. The default is 10s. Less than 50ms is refused.
func WithRefreshPause(d time.Duration) JWKSOption {
	return duration("refresh pause", d, func(c *jwksConfig) *time.Duration { return &c.pause })
}

const shortestDuration = 50 * time.Millisecond

func duration(what string, d time.Duration, field func(*jwksConfig) *time.Duration) JWKSOption {
	return func(c *jwksConfig) error {
		if d < shortestDuration {
			return fmt.Errorf("%s %v is under %v", what, d, shortestDuration)
		}
		*field(c) = d
		return nil
	}
}

// WithAlgorithms uses the keys of the set with no other algorithms. The default is all
// that a key suits: see [JWKS].
func WithAlgorithms(algorithms ...string) JWKSOption {
	return func(c *jwksConfig) error {
		if len(algorithms) == 0 {
			return errors.New("no algorithm")
		}
		for _, algorithm := range algorithms {
			if suits[algorithm] == nil {
				return fmt.Errorf("unknown algorithm %q, want %s", algorithm, oneOf(slices.Sorted(maps.Keys(suits))))
			}
		}
		c.algorithms = slices.Clone(algorithms)
		return nil
	}
}

// WithPlainHTTP allows an http URL, and redirects to one. Whoever can tamper with such
// a connection can be any user; the default is to refuse it.
func WithPlainHTTP() JWKSOption {
	return func(c *jwksConfig) error {
		c.plainHTTP = true
		return nil
	}
}

// WithLateStart makes [NewJWKS] succeed without the key set, which is then fetched as
// soon as its endpoint answers; all tokens that need it are refused until then. The
// default is to fail, so that a wrong address is noticed.
func WithLateStart() JWKSOption {
	return func(c *jwksConfig) error {
		c.lateStart = true
		return nil
	}
}

// WithLogger sets where a JWKS logs fetches that failed, and keys that it does not use.
// The default is slog.Default().
func WithLogger(l *slog.Logger) JWKSOption {
	return func(c *jwksConfig) error {
		if l == nil {
			return errors.New("logger is nil")
		}
		c.logger = l
		return nil
	}
}

// configure applies the options, and reports all that cannot be met.
func (j *JWKS) configure(address string, options []JWKSOption) error {
	var wrong []error
	for _, o := range options {
		if err := o(&j.jwksConfig); err != nil {
			wrong = append(wrong, err)
		}
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		wrong = append(wrong, errors.New("address is no URL")) // which the error would repeat, password and all
	case !j.allowed(u) || u.Host == "":
		wrong = append(wrong, fmt.Errorf("address %s is no https URL", u.Redacted()))
	}
	j.url = u
	client := *j.client
	client.CheckRedirect = j.checkRedirect(client.CheckRedirect)
	j.client = &client
	return errors.Join(wrong...)
}

func (c *jwksConfig) allowed(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && c.plainHTTP
}

// maximumRedirects is net/http's own, which a CheckRedirect replaces.
const maximumRedirects = 10

func (c *jwksConfig) checkRedirect(given func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(r *http.Request, via []*http.Request) error {
		switch {
		case !c.allowed(r.URL):
			return fmt.Errorf("redirected to %s, which is no https URL", r.URL.Redacted())
		case given != nil:
			return given(r, via)
		case len(via) >= maximumRedirects:
			return fmt.Errorf("redirected more than %d times", maximumRedirects)
		default:
			return nil
		}
	}
}
