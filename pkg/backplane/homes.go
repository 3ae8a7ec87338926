package backplane

import (
	"context"
	"time"
)

// A Home says which node holds a connection.
type Home struct {
	// Node is the node's id. It is empty where the connection has ended, and is not to
	// come back: the record is a tombstone.
	Node string
	// Epoch is 1 when the connection is claimed, and one more each time that it moves.
	Epoch uint64
}

// Ended reports whether the connection has ended.
func (h Home) Ended() bool { return h.Node == "" }

// Homes is the directory of connections' homes, which all nodes share that serve the
// prefix. Of each connection there is at most one record, and every record has a time to
// live. Records outlive their nodes: whether a home is alive, [Attachment.Node] says.
//
// A connection is named by its id, which is not empty. A life is a time from now on, of
// at least a millisecond, unless a method says otherwise.
//
// The methods may be called concurrently, but not from Deliver. They wait for no longer
// than the backplane's time-out for it, and nothing is repeated. They fail with
// [ErrUnavailable], and may then have had their effect all the same; with [ErrForeign];
// with the context's error; or, after Detach, with [ErrClosed].
type Homes interface {
	// Claim makes this node the home of a connection that has no record, and returns
	// that home. It is not won if there is a record, which is then returned: somebody
	// else's, a tombstone, or one that this node has made before, in a call that failed
	// too. Among concurrent calls of all nodes, one wins.
	Claim(ctx context.Context, connection string, life time.Duration) (h Home, won bool, err error)

	// Locate returns the record, if one is found.
	Locate(ctx context.Context, connection string) (h Home, found bool, err error)

	// Renew gives the records of the connections, which this node has with these epochs,
	// the life from now on. A record that is missing is made again: the backplane may
	// have lost it. Those that are somebody else's, of another epoch, or tombstones, are
	// left as they are, and the connections returned, in no particular order. Of an
	// error's reasons the first is told, but lost is right as far as it goes, and all
	// records are tried that can be.
	//
	// A connection must not be renewed and ended at the same time.
	Renew(ctx context.Context, life time.Duration, epochs map[string]uint64) (lost []string, err error)

	// End makes the connection's record a tombstone for life, or removes it if life is
	// 0. It does so if the record is this node's with this epoch, or missing; another is
	// left as it is, which is no error.
	End(ctx context.Context, connection string, epoch uint64, life time.Duration) error

	// Move makes the node to the connection's home, with the next epoch, if the record
	// is this node's with this one, and reports whether that was so. Where it fails,
	// Locate can tell whether it has moved.
	Move(ctx context.Context, connection string, epoch uint64, to string, life time.Duration) (moved bool, err error)
}
