package peer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	sealHeader = "Heliograph-Peer"

	sealVersion = "1"
	sealFields  = 9
	// maxSeal bounds the header: ids of nodes have up to 255 bytes, and three times that
	// when they are escaped.
	maxSeal = 4096
)

// What a sealed request is.
const (
	kindForward = "forward"
	kindCall    = "call"
)

// A seal shows that a request comes from a node of the cluster. The package's
// documentation has its text.
type seal struct {
	kind   string
	time   int64 // unix seconds
	nonce  nonce
	from   string
	to     string
	client string // whose request is forwarded
	body   digest // of a call
	mac    digest
}

type (
	nonce  [16]byte
	digest [sha256.Size]byte
)

// newSeal returns one that is not on a request yet.
func (p *Peers) newSeal(kind, to string) seal {
	s := seal{kind: kind, time: time.Now().Unix(), from: p.self, to: to}
	rand.Read(s.nonce[:])
	return s
}

// put seals a request that is about to be sent.
func (p *Peers) put(s *seal, r *http.Request) {
	s.mac = s.sum(p.keys[0], r.Method, r.URL.RequestURI(), r.Host)
	r.Header.Set(sealHeader, s.String())
}

// opened returns the key that seals the request as it came, or nil.
func (p *Peers) opened(s *seal, r *http.Request) (key []byte) {
	for _, k := range p.keys {
		if want := s.sum(k, r.Method, r.RequestURI, r.Host); hmac.Equal(want[:], s.mac[:]) {
			return k
		}
	}
	return nil
}

func (s *seal) sum(key []byte, method, uri, host string) digest {
	return sum(key, "request", s.kind, strconv.FormatInt(s.time, 10), string(s.nonce[:]), s.from, s.to, s.client,
		string(s.body[:]), method, uri, host)
}

// fresh reports whether the clock of whoever sealed is near enough.
func (s *seal) fresh(now time.Time) bool {
	age := now.Sub(time.Unix(s.time, 0))
	return -Tolerance <= age && age <= Tolerance
}

// proof is what whoever answers a sealed request shows, having the same key. status and
// body are of the answer to a call.
func (s *seal) proof(key []byte, status int, body []byte) string {
	d := sha256.Sum256(body)
	if s.kind != kindCall {
		status, d = 0, digest{}
	}
	mac := sum(key, "answer", s.kind, string(s.nonce[:]), s.to, strconv.Itoa(status), string(d[:]))
	return base64.RawURLEncoding.EncodeToString(mac[:])
}

// sum is the HMAC of the fields, each of which is told from the next by its length.
func sum(key []byte, fields ...string) digest {
	m := hmac.New(sha256.New, key)
	var length [4]byte
	for _, f := range fields {
		binary.BigEndian.PutUint32(length[:], uint32(len(f)))
		m.Write(length[:])
		m.Write([]byte(f))
	}
	return digest(m.Sum(nil))
}

func (s *seal) String() string {
	encode := base64.RawURLEncoding.EncodeToString
	return strings.Join([]string{
		sealVersion, s.kind, strconv.FormatInt(s.time, 10), encode(s.nonce[:]),
		"-" + url.QueryEscape(s.from), "-" + url.QueryEscape(s.to), "-" + url.QueryEscape(s.client),
		encode(s.body[:]), encode(s.mac[:]),
	}, " ")
}

var errNoSeal = errors.New("not a seal")

// sealOf reads the seal that a request carries. It does not look whether it is genuine.
func sealOf(r *http.Request) (seal, error) {
	values := r.Header[sealHeader]
	if len(values) != 1 {
		return seal{}, errNoSeal
	}
	return parseSeal(values[0])
}

func parseSeal(text string) (s seal, err error) {
	if len(text) > maxSeal || strings.Count(text, " ") != sealFields-1 {
		return seal{}, errNoSeal
	}
	f := strings.Split(text, " ")
	s.kind = f[1]
	if f[0] != sealVersion || s.kind != kindForward && s.kind != kindCall {
		return seal{}, errNoSeal
	}
	var wrong [7]error
	s.time, wrong[0] = strconv.ParseInt(f[2], 10, 64)
	wrong[1] = decode(s.nonce[:], f[3])
	s.from, wrong[2] = unescape(f[4])
	s.to, wrong[3] = unescape(f[5])
	s.client, wrong[4] = unescape(f[6])
	wrong[5] = decode(s.body[:], f[7])
	wrong[6] = decode(s.mac[:], f[8])
	if errors.Join(wrong[:]...) != nil {
		return seal{}, errNoSeal
	}
	return s, nil
}

func decode(to []byte, text string) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil && len(b) != len(to) {
		err = errNoSeal
	}
	copy(to, b)
	return err
}

func unescape(text string) (string, error) {
	escaped, marked := strings.CutPrefix(text, "-")
	if !marked {
		return "", errNoSeal
	}
	return url.QueryUnescape(escaped)
}
