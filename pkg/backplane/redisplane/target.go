package redisplane

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A target is what the options say of where Redis is.
type target struct {
	redis *redis.Options // what links are made with; with sentinels, without an address
	// With sentinels:
	master    string // the name that they know it by
	sentinels []*redis.Options
}

// sentinelParameters are those of a URL that are for sentinels alone.
var sentinelParameters = []string{"sentinel_username", "sentinel_password"}

// target reads the options. Errors do not quote the URL, which may hold passwords.
func (o Options) target() (target, error) {
	scheme, rest, _ := strings.Cut(o.URL, "://")
	var t target
	var err error
	if plain, ok := strings.CutSuffix(scheme, "+sentinel"); ok && (plain == "redis" || plain == "rediss") {
		t, err = o.sentinelTarget(plain, rest)
	} else {
		t.redis, err = o.clientOptions(o.URL)
	}
	if err != nil {
		return target{}, err
	}
	if o.Username != "" {
		t.redis.Username = o.Username
	}
	if o.Password != "" {
		t.redis.Password = o.Password
	}
	if o.TLS != nil {
		t.redis.TLSConfig = o.TLS.Clone()
	}
	for _, s := range t.sentinels {
		if o.SentinelUsername != "" {
			s.Username = o.SentinelUsername
		}
		if o.SentinelPassword != "" {
			s.Password = o.SentinelPassword
		}
		s.TLSConfig = t.redis.TLSConfig
	}
	return t, nil
}

// sentinelTarget reads what follows the scheme of
//
//	redis+sentinel://user:password@host:port,host:port/master/database?parameters
//
// Several hosts are more than package net/url accepts.
func (o Options) sentinelTarget(scheme, rest string) (t target, err error) {
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		return t, errNoMaster
	}
	authority, rest := rest[:end], rest[end:]
	at := strings.LastIndexByte(authority, '@') + 1
	credentials, hosts := authority[:at], authority[at:]

	u, err := url.Parse(scheme + "://" + credentials + "master" + rest)
	if err != nil {
		return t, errMalformed
	}
	path, database, _ := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if t.master, err = url.PathUnescape(path); err != nil || t.master == "" {
		return t, errNoMaster
	}
	query := u.Query()
	username, password := query.Get(sentinelParameters[0]), query.Get(sentinelParameters[1])
	for _, name := range sentinelParameters {
		query.Del(name)
	}
	u.Path, u.RawPath, u.RawQuery = "/"+database, "", query.Encode()
	if t.redis, err = o.clientOptions(u.String()); err != nil {
		return t, err
	}
	t.redis.Addr = ""
	if t.redis.TLSConfig != nil {
		t.redis.TLSConfig.ServerName = "" // that of the address which is dialed
	}
	for host := range strings.SplitSeq(hosts, ",") {
		s := *t.redis
		s.Username, s.Password, s.DB = username, password, 0
		if s.Addr, err = sentinelAddress(host); err != nil {
			return t, err
		}
		if slices.ContainsFunc(t.sentinels, func(other *redis.Options) bool { return other.Addr == s.Addr }) {
			return t, errors.New("a sentinel is named twice")
		}
		t.sentinels = append(t.sentinels, &s)
	}
	return t, nil
}

var (
	errMalformed = errors.New("malformed (in user and password, characters such as / ? # @ % must be percent-encoded)")
	errNoMaster  = errors.New("redis+sentinel needs the name of the master, as in redis+sentinel://host1,host2,host3/mymaster")
)

// sentinelAddress completes host:port, or host.
func sentinelAddress(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil { // there may be no port
		port = "26379"
		if host, _, err = net.SplitHostPort(text + ":" + port); err != nil {
			return "", errors.New("an address of a sentinel is not host:port")
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", errors.New("an address of a sentinel is not host:port")
	}
	return net.JoinHostPort(host, port), nil
}
