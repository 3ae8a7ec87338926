package transport

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// MinimumKeyBytes is the least length of a cluster key.
const MinimumKeyBytes = 32

// Keys authenticate connection tokens among the nodes of a cluster: the first signs,
// all are accepted, so that a key can be replaced without an interruption: add the
// new one behind the old on every node, then swap them, then drop the old.
type Keys [][]byte

// NewKeys checks that there is a key and that each has at least [MinimumKeyBytes].
func NewKeys(keys ...[]byte) (Keys, error) {
	if len(keys) == 0 {
		return nil, errors.New("no cluster key")
	}
	for i, k := range keys {
		if len(k) < MinimumKeyBytes {
			return nil, fmt.Errorf("cluster key %d has %d bytes, needs %d", i+1, len(k), MinimumKeyBytes)
		}
	}
	return keys, nil
}

// RandomKey returns a key for a cluster of one node.
func RandomKey() Keys {
	k := make([]byte, MinimumKeyBytes)
	rand.Read(k)
	return Keys{k}
}

// DeriveKey returns a cluster key that whoever knows the secret arrives at, so that
// nodes which share another secret already need no key of their own. The secret cannot
// be found from the key.
func DeriveKey(secret []byte) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "heliograph cluster key", MinimumKeyBytes)
	if err != nil {
		panic("derive cluster key: " + err.Error()) // only for a length out of bounds
	}
	return key
}

// A connection token is the base64url form of
//
//	offset size
//	0      1    layout, 2
//	1      1    flags: 1, stateful reconnect was granted; others are 0
//	2      16   connection id
//	18     8    attach before, unix milliseconds, big-endian
//	26     16   user tag: of the user who negotiated
//	42     32   HMAC-SHA256 over the hub's name and all of the above
//
// The tag tells a token used by another user from one that nobody minted, without
// naming the user.
const (
	tokenLayout = 2
	tokenSize   = 74
	macOffset   = 42

	flagStateful = 1
)

type connectionToken struct {
	id       [16]byte
	before   time.Time
	user     [16]byte
	stateful bool
	public   bool // of negotiate version 0; that is not in the bytes but in their scope
}

var errInvalidToken = errors.New("invalid connection token")

// newConnectionID returns 122 random bits: the id may be shown to other clients, and
// no client may choose its own.
func newConnectionID() [16]byte { return uuid.New() }

func idString(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func (k Keys) mint(hub string, t connectionToken) string {
	b := make([]byte, tokenSize)
	b[0] = tokenLayout
	if t.stateful {
		b[1] |= flagStateful
	}
	copy(b[2:], t.id[:])
	binary.BigEndian.PutUint64(b[18:], uint64(t.before.UnixMilli()))
	copy(b[26:], t.user[:])
	copy(b[macOffset:], tokenMAC(k[0], hub, b[:macOffset]))
	return base64.RawURLEncoding.EncodeToString(b)
}

// open returns the token's content if any key authenticates it for the hub. It does
// not look at the clock or the user.
func (k Keys) open(hub, token string) (connectionToken, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != tokenSize || b[0] != tokenLayout || b[1]&^flagStateful != 0 {
		return connectionToken{}, errInvalidToken
	}
	for _, key := range k {
		if hmac.Equal(b[macOffset:], tokenMAC(key, hub, b[:macOffset])) {
			t := connectionToken{
				before:   time.UnixMilli(int64(binary.BigEndian.Uint64(b[18:]))),
				stateful: b[1]&flagStateful != 0,
			}
			copy(t.id[:], b[2:])
			copy(t.user[:], b[26:])
			return t, nil
		}
	}
	return connectionToken{}, errInvalidToken
}

func tokenMAC(key []byte, hub string, content []byte) []byte {
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "connection token\x00%d\x00%s", len(hub), hub)
	m.Write(content)
	return m.Sum(nil)
}

// tag returns what stands for the user in a token. It needs no secret: the token's
// MAC covers it, and the token itself is secret.
func tag(user string) [16]byte {
	sum := sha256.Sum256([]byte("user\x00" + user))
	return [16]byte(sum[:16])
}
