package redisplane

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// Keys of the roster (see site.key). Each has a time to live.
const (
	rosterKey       = "heliograph:nodes" // a set of node ids; some may be gone
	announcementKey = "heliograph:node:" // and the node's id
)

// An announcement is what a node says of itself. In Redis it is JSON behind its MAC. What
// a later node adds is ignored.
type announcement struct {
	ID          string   `json:"id"`
	Incarnation uint64   `json:"incarnation"`
	Prefixes    []string `json:"prefixes"` // of the hubs it serves
	Hearing     bool     `json:"hearing"`
	Address     string   `json:"address,omitempty"` // under which nodes reach it
	// Partitions is how many there are of sharded channels; 0: channels are classic ones.
	Partitions int  `json:"partitions,omitempty"`
	Left       bool `json:"left,omitempty"` // it has been closed, and is about to be forgotten
}

func (a announcement) state() backplane.NodeState {
	return backplane.NodeState{ID: a.ID, Hearing: a.Hearing, Address: a.Address}
}

// sign returns the announcement as it is in Redis.
func (a announcement) sign(key []byte) (string, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	return base64.RawStdEncoding.EncodeToString(announcementMAC(key, string(text))) + " " + string(text), nil
}

// verifyAnnouncement returns the announcement, if one of the keys has signed it.
func verifyAnnouncement(value string, keys [][]byte) (a announcement, ok bool) {
	sum, text, found := strings.Cut(value, " ")
	mac, err := base64.RawStdEncoding.Strict().DecodeString(sum)
	if !found || err != nil {
		return announcement{}, false
	}
	signed := slices.ContainsFunc(keys, func(key []byte) bool {
		return hmac.Equal(mac, announcementMAC(key, text))
	})
	if !signed || json.Unmarshal([]byte(text), &a) != nil {
		return announcement{}, false
	}
	return a, true
}

func announcementMAC(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("announcement\x00" + text))
	return m.Sum(nil)
}
