package auth_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/heliograph/heliograph/pkg/auth"
)

// Tokens of an issuer that publishes its keys.
func ExampleNewJWKS() {
	ctx := context.Background()
	issuer := startIssuer()
	defer issuer.Close()
	keysAddress, httpClient := issuer.URL+"/keys", issuer.Client()

	keys, err := auth.NewJWKS(ctx, keysAddress, auth.WithHTTPClient(httpClient))
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close() // after the hub has been shut down

	tokens, err := auth.NewJWT(
		auth.WithIssuer("https://login.example.com", keys),
		auth.WithAudience("chat"),
		auth.WithExpirationRequired(),
		auth.WithLeeway(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}

	for _, audience := range []string{"chat", "mail"} {
		id, err := tokens.Verify(ctx, issuer.token("ada", audience))
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(id.Subject)
	}
	// Output:
	// ada
	// credentials refused: claim aud is "mail", want chat
}

// A key from a file, for one algorithm.
func ExampleNewKey() {
	public, _, err := ed25519.GenerateKey(rand.Reader) // or x509.ParsePKIXPublicKey
	if err != nil {
		log.Fatal(err)
	}
	key, err := auth.NewKey(public, "EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := auth.NewJWT(auth.WithKeys(auth.StaticKeys{key.WithID("2026")})); err != nil {
		log.Fatal(err)
	}

	_, err = auth.NewKey(public, "HS256")
	fmt.Println(err)
	// Output: HS256 key is a ed25519.PublicKey, want []byte
}

// Sessions of a web application, by a cookie.
func ExampleAuthenticatorFunc_cookie() {
	sessions := map[string]session{"x7Kp": {user: "ada", ends: time.Now().Add(time.Hour)}}
	a := bySession(func(id string) (session, bool) {
		s, ok := sessions[id]
		return s, ok
	})

	for _, id := range []string{"x7Kp", "stale", ""} {
		r := httptest.NewRequest("POST", "/chat/negotiate", nil)
		if id != "" {
			r.AddCookie(&http.Cookie{Name: "session", Value: id})
		}
		show(a.Authenticate(r))
	}
	// Output:
	// ada
	// credentials refused: no such session
	// nobody
}

type session struct {
	user  string
	roles []string
	ends  time.Time
}

// bySession takes a request for that of the user whose session its cookie names.
func bySession(find func(id string) (session, bool)) auth.Authenticator {
	return auth.AuthenticatorFunc(func(r *http.Request) (*auth.Identity, error) {
		cookie, err := r.Cookie("session")
		if err != nil {
			return auth.Anonymous, nil
		}
		s, ok := find(cookie.Value)
		if !ok {
			return nil, fmt.Errorf("%w: no such session", auth.ErrUnauthenticated)
		}
		return &auth.Identity{
			Subject:       s.user,
			Claims:        auth.Claims{"role": s.roles},
			Expires:       s.ends,
			Authenticated: true,
		}, nil
	})
}

// Keys of programs, in a header.
func ExampleAuthenticatorFunc_apiKey() {
	a := byAPIKey(map[[sha256.Size]byte]string{sha256.Sum256([]byte("a long random key")): "billing"})

	for _, key := range []string{"a long random key", "a guess", ""} {
		r := httptest.NewRequest("POST", "/chat/negotiate", nil)
		r.Header.Set("X-API-Key", key)
		show(a.Authenticate(r))
	}
	// Output:
	// billing
	// credentials refused: no such API key
	// nobody
}

// byAPIKey knows the owners of keys by the keys' hashes: so the keys themselves are kept
// nowhere, and how long the look-up takes says nothing of them.
func byAPIKey(owners map[[sha256.Size]byte]string) auth.Authenticator {
	return auth.AuthenticatorFunc(func(r *http.Request) (*auth.Identity, error) {
		key := r.Header.Get("X-API-Key")
		if key == "" {
			return auth.Anonymous, nil
		}
		owner, ok := owners[sha256.Sum256([]byte(key))]
		if !ok {
			return nil, fmt.Errorf("%w: no such API key", auth.ErrUnauthenticated)
		}
		return &auth.Identity{Subject: owner, Claims: auth.Claims{"role": "service"}, Authenticated: true}, nil
	})
}

// Client certificates, where the node itself ends TLS.
func ExampleAuthenticatorFunc_clientCertificate() {
	certificate := selfSigned("sensor-7")
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate.Leaf)

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := auth.AuthenticatorFunc(byCertificate).Authenticate(r)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, "%q", id.Subject)
	}))
	server.TLS = &tls.Config{ClientCAs: trusted, ClientAuth: tls.VerifyClientCertIfGiven}
	server.StartTLS()
	defer server.Close()

	client := server.Client()
	fmt.Println(get(client, server.URL))
	client.CloseIdleConnections()
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{certificate}
	fmt.Println(get(client, server.URL))
	// Output:
	// ""
	// "sensor-7"
}

// byCertificate takes a request for that of who holds the certificate which the TLS
// handshake has verified. What is not in VerifiedChains may be anybody's.
func byCertificate(r *http.Request) (*auth.Identity, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return auth.Anonymous, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	return &auth.Identity{Subject: leaf.Subject.CommonName, Expires: leaf.NotAfter, Authenticated: true}, nil
}

// Users come with tokens, programs with API keys.
func ExampleFirstOf() {
	tokens, err := auth.HS256([]byte("a shared secret of thirty-two bytes or more"))
	if err != nil {
		log.Fatal(err)
	}
	apiKeys := byAPIKey(map[[sha256.Size]byte]string{sha256.Sum256([]byte("a long random key")): "billing"})

	a := auth.FirstOf(tokens, apiKeys)

	r := httptest.NewRequest("POST", "/chat/negotiate", nil)
	r.Header.Set("X-API-Key", "a long random key")
	show(a.Authenticate(r))
	r.Header.Set("Authorization", "Bearer expired.or.forged")
	_, err = a.Authenticate(r)
	fmt.Println(errors.Is(err, auth.ErrUnauthenticated))
	// Output:
	// billing
	// true
}

// A policy of one's own, and one put together.
func ExampleRequirement() {
	moderator := auth.All(
		scope("chat"),
		auth.Any(auth.Role("moderator"), auth.Claim("department", "support")))

	for _, claims := range []auth.Claims{
		{"scope": "openid chat", "role": "moderator"},
		{"scope": "openid chat", "department": "sales"},
		{"scope": "openid", "role": "moderator"},
	} {
		err := moderator(context.Background(), &auth.Identity{Claims: claims, Authenticated: true})
		fmt.Println(err == nil)
	}
	// Output:
	// true
	// false
	// false
}

// scope requires one of the scopes that OAuth puts into one claim, with spaces between.
func scope(name string) auth.Requirement {
	return func(_ context.Context, id *auth.Identity) error {
		scopes, _ := id.Claims.First("scope")
		if !id.Authenticated || !slices.Contains(strings.Fields(scopes), name) {
			return fmt.Errorf("no scope %s", name)
		}
		return nil
	}
}

// show prints who an authenticator found.
func show(id *auth.Identity, err error) {
	switch {
	case err != nil:
		fmt.Println(err)
	case !id.Authenticated:
		fmt.Println("nobody")
	default:
		fmt.Println(id.Subject)
	}
}

// An exampleIssuer signs tokens and publishes its key.
type exampleIssuer struct {
	*httptest.Server
	private ed25519.PrivateKey
}

func startIssuer() *exampleIssuer {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	i := &exampleIssuer{private: private}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"1","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	}))
	return i
}

func (i *exampleIssuer) token(user, audience string) string {
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": "https://login.example.com", "aud": audience, "sub": user, "exp": time.Now().Add(time.Hour).Unix(),
	})
	t.Header["kid"] = "1"
	signed, err := t.SignedString(i.private)
	if err != nil {
		log.Fatal(err)
	}
	return signed
}

func selfSigned(name string) tls.Certificate {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		log.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}
}

func get(client *http.Client, address string) string {
	response, err := client.Get(address)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(body)
}
