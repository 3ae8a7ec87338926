package redisplane

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A target is what the options say of where Redis is.
type target struct {
	redis  *redis.Options // what links are made with; without an address where there are witnesses
	keys   string         // what all keys begin with, where the layout does not say it
	layout layout

	// Who is asked for the address, and how, where that is not known:

	witnesses []*redis.Options
	question  question // with a place for each partition
}

// firstWord is what all keys begin with, but in a cluster.
const firstWord = "heliograph"

// sentinelParameters are those of a URL that are for sentinels alone.
var sentinelParameters = []string{"sentinel_username", "sentinel_password"}

// target reads the options. Errors do not quote the URL, which may hold passwords.
func (o Options) target() (target, error) {
	scheme, rest, _ := strings.Cut(o.URL, "://")
	t := target{keys: firstWord, layout: classic}
	var err error
	switch plain, kind, _ := strings.Cut(scheme, "+"); {
	case plain != "redis" && plain != "rediss":
		err = fmt.Errorf("scheme %q is none of %s", scheme, schemes)
	case kind == "sentinel":
		err = o.sentinels(&t, plain, rest)
	case kind == "cluster":
		err = o.cluster(&t, plain, rest)
	default:
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
	for _, w := range t.witnesses {
		w.TLSConfig = t.redis.TLSConfig
		if t.question.role != "sentinel" {
			w.Username, w.Password = t.redis.Username, t.redis.Password
			continue
		}
		if o.SentinelUsername != "" {
			w.Username = o.SentinelUsername
		}
		if o.SentinelPassword != "" {
			w.Password = o.SentinelPassword
		}
	}
	return t, nil
}

const schemes = "redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster"

// sentinels reads what follows the scheme of
//
//	redis+sentinel://user:password@host:port,host:port/master/database?parameters
func (o Options) sentinels(t *target, scheme, rest string) error {
	u, hosts, err := splitHosts(scheme, rest)
	if err != nil {
		return err
	}
	path, database, _ := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	master, err := url.PathUnescape(path)
	if err != nil || master == "" {
		return errNoMaster
	}
	t.question = askSentinels(master)
	query := u.Query()
	username, password := query.Get(sentinelParameters[0]), query.Get(sentinelParameters[1])
	for _, name := range sentinelParameters {
		query.Del(name)
	}
	u.Path, u.RawPath, u.RawQuery = "/"+database, "", query.Encode()
	if err := o.several(t, u, hosts, "26379"); err != nil {
		return err
	}
	for _, w := range t.witnesses {
		w.Username, w.Password, w.DB = username, password, 0
	}
	return nil
}

// cluster reads what follows the scheme of
//
//	redis+cluster://user:password@host:port,host:port?pubsub=sharded&partitions=16&parameters
func (o Options) cluster(t *target, scheme, rest string) error {
	u, hosts, err := splitHosts(scheme, rest)
	if err != nil {
		return err
	}
	if u.Path != "" && u.Path != "/" {
		return errors.New("a cluster has no databases")
	}
	query := u.Query()
	if t.layout, err = parseLayout(query.Get("pubsub"), query.Get("partitions")); err != nil {
		return err
	}
	query.Del("pubsub")
	query.Del("partitions")
	u.RawQuery = query.Encode()
	t.keys = clusterKeys
	t.question = askCluster(clusterSlot)
	if t.layout.isSharded() {
		t.question = askCluster(t.layout.slots()...)
	}
	return o.several(t, u, hosts, "6379")
}

// parseLayout reads the parameters of a cluster's URL that say how channels lie in it.
func parseLayout(pubsub, partitions string) (layout, error) {
	switch {
	case pubsub == "classic" && partitions == "":
		return classic, nil
	case pubsub == "classic":
		return layout{}, errors.New("classic channels have no partitions")
	case pubsub != "" && pubsub != "sharded":
		return layout{}, errors.New("pubsub is sharded, which is the default, or classic")
	case partitions == "":
		return sharded(defaultPartitions), nil
	}
	n, err := strconv.Atoi(partitions)
	if err != nil || n < 1 || n > maxPartitions {
		return layout{}, fmt.Errorf("partitions is none of 1 to %d", maxPartitions)
	}
	return sharded(n), nil
}

// splitHosts takes the hosts out of the rest of a URL: several are more than package
// net/url accepts.
func splitHosts(scheme, rest string) (u *url.URL, hosts string, err error) {
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@') + 1
	u, err = url.Parse(scheme + "://" + rest[:at] + "several" + rest[end:])
	if err != nil {
		return nil, "", errMalformed
	}
	return u, rest[at:end], nil
}

// several reads the URL of one server, and the hosts that are to be asked for its address.
func (o Options) several(t *target, u *url.URL, hosts, port string) (err error) {
	if t.redis, err = o.clientOptions(u.String()); err != nil {
		return err
	}
	t.redis.Addr = ""
	if t.redis.TLSConfig != nil {
		t.redis.TLSConfig.ServerName = "" // that of the address which is dialed
	}
	for host := range strings.SplitSeq(hosts, ",") {
		w := *t.redis
		if w.Addr, err = completeAddress(host, port); err != nil {
			return err
		}
		if slices.ContainsFunc(t.witnesses, func(other *redis.Options) bool { return other.Addr == w.Addr }) {
			return errors.New("an address is there twice")
		}
		t.witnesses = append(t.witnesses, &w)
	}
	return nil
}

var (
	errMalformed = errors.New("malformed (in user and password, characters such as / ? # @ % must be percent-encoded)")
	errNoMaster  = errors.New("redis+sentinel needs the name of the master, as in redis+sentinel://host1,host2,host3/mymaster")
	errAddress   = errors.New("one of several addresses is not host:port")
)

// completeAddress completes host:port, or host.
func completeAddress(text, defaultPort string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil { // there may be no port
		if host, port, err = net.SplitHostPort(text + ":" + defaultPort); err != nil {
			return "", errAddress
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", errAddress
	}
	return net.JoinHostPort(host, port), nil
}
