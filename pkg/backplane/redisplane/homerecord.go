package redisplane

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// homeKey is what the keys of home records begin with (see site.key). The hub's prefix and the
// connection's id follow.
const homeKey = "heliograph:home:"

// A home record is text: the version, the epoch in decimal, the node's id (or nothing:
// a tombstone), and the MAC in base64, with a space after each but the last. A script
// can so tell whose it is by how it begins.
const homeVersion = "1"

// homeBegin returns what the record of the home begins with: all but the MAC.
func homeBegin(h backplane.Home) string {
	return homeVersion + " " + strconv.FormatUint(h.Epoch, 10) + " " + h.Node + " "
}

// signHome returns the record as it is in Redis, under that key.
func signHome(key []byte, redisKey string, h backplane.Home) string {
	begin := homeBegin(h)
	return begin + base64.RawStdEncoding.EncodeToString(homeMAC(key, redisKey, begin))
}

// verifyHome returns the home, if one of the keys has signed its record for this key of
// Redis.
func verifyHome(value, redisKey string, keys [][]byte) (h backplane.Home, ok bool) {
	fields := strings.Split(value, " ")
	if len(fields) != 4 || fields[0] != homeVersion {
		return backplane.Home{}, false
	}
	epoch, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return backplane.Home{}, false
	}
	mac, err := base64.RawStdEncoding.Strict().DecodeString(fields[3])
	if err != nil {
		return backplane.Home{}, false
	}
	begin := strings.TrimSuffix(value, fields[3])
	h = backplane.Home{Node: fields[2], Epoch: epoch}
	signed := slices.ContainsFunc(keys, func(key []byte) bool {
		return hmac.Equal(mac, homeMAC(key, redisKey, begin))
	})
	if !signed || homeBegin(h) != begin {
		return backplane.Home{}, false
	}
	return h, true
}

func homeMAC(key []byte, redisKey, begin string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("home\x00" + strconv.Itoa(len(redisKey)) + "\x00" + redisKey + begin))
	return m.Sum(nil)
}
