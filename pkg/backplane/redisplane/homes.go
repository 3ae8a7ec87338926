package redisplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// Each script has one key, so that it can run wherever that key is.
const (
	// claimScript puts a record where there is none: value, life in milliseconds. It
	// returns the record that was there, or nothing.
	claimScript = `
local there = redis.call('GET', KEYS[1])
if there then return there end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false`

	// replaceScript puts a record in the place of one that begins in the way given: that
	// beginning, value, life in milliseconds or 0 to leave none, whether a missing one
	// is as good as it (1 or 0). It returns nothing if it has done so, and otherwise the
	// record that is there, empty if it is missing.
	replaceScript = `
local there = redis.call('GET', KEYS[1])
if not there then
	if ARGV[4] == '0' then return '' end
elseif string.sub(there, 1, #ARGV[1]) ~= ARGV[1] then
	return there
end
if ARGV[3] == '0' then
	redis.call('DEL', KEYS[1])
else
	redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return false`
)

// errLife reports a time to live that no record can have.
var errLife = errors.New("a record lives for at least a millisecond")

// homes implements [backplane.Homes] for one attachment.
type homes struct{ of *attachment }

// Claim implements [backplane.Homes].
func (h homes) Claim(ctx context.Context, connection string, life time.Duration) (backplane.Home, bool, error) {
	there, won, err := h.claim(ctx, connection, life)
	if err != nil {
		return backplane.Home{}, false, fmt.Errorf("claim connection: %w", err)
	}
	return there, won, nil
}

func (h homes) claim(ctx context.Context, connection string, life time.Duration) (there backplane.Home, won bool, err error) {
	if life < time.Millisecond {
		return there, false, errLife
	}
	key, own := h.key(connection), h.home(1)
	command := redis.NewCmd(ctx, "eval", claimScript, 1, key,
		signHome(h.of.plane.roster.keys[0], key, own), life.Milliseconds())
	if err := h.do(ctx, command); err != nil {
		return there, false, err
	}
	there, found, err := h.read(command, key)
	if err == nil && !found {
		return own, true, nil
	}
	return there, false, err
}

// Locate implements [backplane.Homes].
func (h homes) Locate(ctx context.Context, connection string) (there backplane.Home, found bool, err error) {
	key := h.key(connection)
	command := redis.NewCmd(ctx, "get", key)
	if err = h.do(ctx, command); err == nil {
		there, found, err = h.read(command, key)
	}
	if err != nil {
		return backplane.Home{}, false, fmt.Errorf("locate connection: %w", err)
	}
	return there, found, nil
}

// Renew implements [backplane.Homes]. It waits for the time-out for each 512 records, and
// tries no more of them when one has passed.
func (h homes) Renew(ctx context.Context, life time.Duration, epochs map[string]uint64) (lost []string, err error) {
	if life < time.Millisecond {
		err = errLife
	}
	connections := slices.Collect(maps.Keys(epochs))
	for some := range slices.Chunk(connections, maxCommands) {
		if err != nil && !errors.Is(err, backplane.ErrForeign) {
			break
		}
		gone, failure := h.renew(ctx, life, some, epochs)
		lost = append(lost, gone...)
		err = cmp.Or(err, failure)
	}
	if err != nil {
		err = fmt.Errorf("renew homes of connections: %w", err)
	}
	return lost, err
}

func (h homes) renew(ctx context.Context, life time.Duration, connections []string, epochs map[string]uint64) (lost []string, err error) {
	commands := make([]*redis.Cmd, len(connections))
	for i, connection := range connections {
		own := h.home(epochs[connection])
		commands[i] = h.replace(ctx, connection, own, own, life, true)
	}
	if err := h.do(ctx, commands...); err != nil {
		return nil, err
	}
	for i, command := range commands {
		_, found, failure := h.read(command, h.key(connections[i]))
		switch {
		case failure != nil:
			err = cmp.Or(err, failure)
		case found:
			lost = append(lost, connections[i])
		}
	}
	return lost, err
}

// End implements [backplane.Homes].
func (h homes) End(ctx context.Context, connection string, epoch uint64, life time.Duration) error {
	if life != 0 && life < time.Millisecond {
		return fmt.Errorf("end connection: %w", errLife)
	}
	command := h.replace(ctx, connection, h.home(epoch), backplane.Home{Epoch: epoch}, life, true)
	err := h.do(ctx, command)
	if err == nil {
		_, _, err = h.read(command, h.key(connection))
	}
	if err != nil {
		return fmt.Errorf("end connection: %w", err)
	}
	return nil
}

// Move implements [backplane.Homes].
func (h homes) Move(ctx context.Context, connection string, epoch uint64, to string, life time.Duration) (moved bool, err error) {
	moved, err = h.move(ctx, connection, epoch, to, life)
	if err != nil {
		return false, fmt.Errorf("move connection: %w", err)
	}
	return moved, nil
}

func (h homes) move(ctx context.Context, connection string, epoch uint64, to string, life time.Duration) (moved bool, err error) {
	switch {
	case life < time.Millisecond:
		return false, errLife
	case to == "" || strings.Contains(to, " "):
		return false, fmt.Errorf("%q is not the id of a node", to)
	}
	command := h.replace(ctx, connection, h.home(epoch), backplane.Home{Node: to, Epoch: epoch + 1}, life, false)
	if err := h.do(ctx, command); err != nil {
		return false, err
	}
	if value, err := command.Text(); err == nil && value == "" {
		return false, nil // missing
	}
	_, found, err := h.read(command, h.key(connection))
	return !found, err
}

// replace returns the command that puts another record in the place of the connection's,
// if that is the one given, or missing where that is as good.
func (h homes) replace(ctx context.Context, connection string, from, to backplane.Home, life time.Duration, orMissing bool) *redis.Cmd {
	key := h.key(connection)
	missing := 0
	if orMissing {
		missing = 1
	}
	return redis.NewCmd(ctx, "eval", replaceScript, 1, key,
		homeBegin(from), signHome(h.of.plane.roster.keys[0], key, to), life.Milliseconds(), missing)
}

// do has Redis answer the commands, unless the attachment ends.
func (h homes) do(ctx context.Context, commands ...*redis.Cmd) error {
	if h.of.isDetached() {
		return backplane.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.of.ctx, cancel)()
	err := h.of.plane.first.commands.do(ctx, commands...)
	if h.of.isDetached() {
		return backplane.ErrClosed
	}
	return err
}

// read returns the record that is the reply to a command, if that is not empty.
func (h homes) read(command *redis.Cmd, key string) (there backplane.Home, found bool, err error) {
	value, err := command.Text()
	switch {
	case errors.Is(err, redis.Nil):
		return there, false, nil
	case err == nil:
	case strings.Contains(err.Error(), "WRONGTYPE"):
		return there, false, fmt.Errorf("%w: %s: %w", backplane.ErrForeign, key, err)
	default:
		return there, false, fmt.Errorf("%w: %w", backplane.ErrUnavailable, err)
	}
	there, ok := verifyHome(value, key, h.of.plane.roster.keys)
	if !ok {
		return there, false, fmt.Errorf("%w: %s is not signed by a key of it", backplane.ErrForeign, key)
	}
	return there, true, nil
}

// key returns the connection's key of Redis.
func (h homes) key(connection string) string {
	return h.of.plane.first.site.key(homeKey + h.of.prefix + connection)
}

// home returns this node as one.
func (h homes) home(epoch uint64) backplane.Home {
	return backplane.Home{Node: h.of.plane.id, Epoch: epoch}
}
