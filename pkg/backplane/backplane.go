package backplane

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// A Channel is an address on the backplane, such as "user:ada" or "group:room",
// without the prefix of the hub it belongs to. Channels are compared byte by byte
// and may hold any bytes.
type Channel string

// The channels there are (see docs/architecture.md for who subscribes when).
const All Channel = "all"

// User returns the channel of everything sent to the user identifier id.
func User(id string) Channel { return Channel("user:" + id) }

// Group returns the channel of everything sent to the group name.
func Group(name string) Channel { return Channel("group:" + name) }

// Connection returns the channel of what other nodes send to the connection id.
func Connection(id string) Channel { return Channel("connection:" + id) }

// Node returns the channel of what is for the node id alone.
func Node(id string) Channel { return Channel("node:" + id) }

// Errors of the calls below. They are wrapped with what was being done.
var (
	// ErrNotSent reports that an envelope surely was not carried.
	ErrNotSent = errors.New("not sent")
	// ErrUnknown reports that an envelope may or may not have been carried. It is
	// not repeated.
	ErrUnknown = errors.New("outcome unknown")
	// ErrUnavailable reports that a subscription could not be confirmed in time, or that
	// what was asked of the backplane was not answered, or refused.
	ErrUnavailable = errors.New("backplane unavailable")
	// ErrForeign reports that what the backplane keeps under a connection's id was not
	// put there by a node of the cluster. It is not trusted, nor replaced.
	ErrForeign = errors.New("the record is not of this cluster")
	// ErrClosed reports that the backplane or the attachment has been closed. Errors
	// of Publish wrap it beside ErrNotSent or ErrUnknown.
	ErrClosed = errors.New("backplane closed")
)

// A DeafError is why a node does not hear what is published.
type DeafError struct {
	// Since is from when on something may not have been heard.
	Since time.Time
	// Err is the latest reason.
	Err error
}

// Error implements error.
func (e *DeafError) Error() string {
	return fmt.Sprintf("does not hear the cluster since %s: %v", e.Since.Format(time.RFC3339), e.Err)
}

// Unwrap returns the reason.
func (e *DeafError) Unwrap() error { return e.Err }

// A Backplane is one node's access to all nodes of its cluster. Its methods may be
// called concurrently, but not from Deliver.
type Backplane interface {
	// Attach adds a hub whose channels have the prefix: empty, or of the form
	// [A-Za-z0-9_-]+/ ([CheckPrefix]). It is an error to attach two receivers under
	// one prefix, or any after Close. The channel [All] is subscribed at once, as a
	// subscription that the attachment holds itself: who must know that it is in
	// force holds it as well, and waits.
	Attach(prefix string, r Receiver) (Attachment, error)

	// Advertise tells the other nodes under which address they reach this one: a base
	// URL such as https://10.0.0.7:7070. They find it in [NodeState] soon after. The
	// default is empty: none. It may be called at any time, and does not block.
	Advertise(address string)

	// NodeID returns the node's identifier, unique in the cluster and new with each
	// start of a process. It has from 1 to [MaxPublisher] bytes.
	NodeID() string

	// Healthy returns nil while the node hears what is published, and otherwise says
	// since when and why it does not, in a [DeafError]. The in-process backplane is
	// always healthy until it is closed. After Close the error wraps [ErrClosed].
	Healthy() error

	// Heard returns when the latest that the node has published to itself and heard was
	// published: the proof that it heard after that. It is the zero time if there was none
	// yet. In process it is now, until Close.
	Heard() time.Time

	// Others returns the other nodes as the last look at the roster found them, whatever
	// they serve: it neither waits nor fails, and where the backplane is away, that look may
	// be long ago. In process there are none, since nobody has to be reached.
	Others() []NodeState

	// Close ends all attachments, and all goroutines before it returns: so it waits
	// for a Deliver call in progress. Publish and Wait calls in progress end with
	// [ErrClosed] or with their result. Further calls do nothing.
	Close() error
}

// An Attachment is one hub's use of a Backplane. Its methods may be called
// concurrently, but not from Deliver.
//
// What one node publishes on one channel reaches each subscribed node in the order
// of the Publish calls and at most once. Channels of one partition share one order, whoever
// publishes; of what is published in different partitions nothing is known. Nothing is kept
// for a node that is away but what PublishKept publishes.
type Attachment interface {
	// Partition returns the number of the partition that a channel lies in: at least 0,
	// and the same on all nodes and always. All subscribers see one order over all channels
	// of a partition, as far as the backplane does not fail over in between. The in-process
	// backplane has one partition, 0, as has one over a single Redis.
	Partition(ch Channel) int

	// Publish hands body to the nodes subscribed to each of the channels, the
	// caller's own included; none is no error. A node subscribed to several of them
	// gets it on each. It returns when that is done, or an error that wraps
	// [ErrNotSent] if for no channel it was carried, and [ErrUnknown] otherwise. It
	// is never repeated. body may be reused afterwards.
	//
	// Publish may wait until ctx ends, so the caller holds no lock that the Deliver
	// of any receiver takes.
	Publish(ctx context.Context, body []byte, channels ...Channel) error

	// PublishCounted is Publish on one channel, and tells how many subscribers it was
	// handed to. Strangers may be among them; but where there are none, no node that
	// hears was subscribed.
	PublishCounted(ctx context.Context, body []byte, ch Channel) (subscribers int, err error)

	// PublishKept is PublishCounted of an [Operation] that nodes must not miss: one that
	// does not hear is handed it once it hears again, before anything else that was
	// published (see [MissedReceiver]). So whatever the error, but for one that wraps
	// [ErrNotSent], nodes may yet come to know of it.
	PublishKept(ctx context.Context, operation []byte, ch Channel) (subscribers int, err error)

	// Nodes returns the nodes that have attached a hub under this prefix, the caller's
	// own included, as they are now: the roster. A node is in it before the first
	// subscription under the prefix is confirmed to it, and until it is closed; one that
	// dies is in it for some seconds more. It fails with [ErrUnavailable], [ErrClosed]
	// or the context's error.
	Nodes(ctx context.Context) ([]NodeState, error)

	// Node returns one node of the roster, if it is known to be there. It is made to be
	// asked often: what it says may be as old as the backplane's look at the roster, some
	// seconds, or where the backplane is away, as old as that. A node that was not there
	// then is looked for anew; only that may wait, and fail as Nodes does.
	Node(ctx context.Context, id string) (n NodeState, known bool, err error)

	// Homes returns the directory of the homes of connections.
	Homes() Homes

	// Subscribe counts one more holder of each channel and returns at once; a channel
	// is subscribed while it has holders. Wait returns once all of these channels'
	// subscriptions are in force: what any node publishes from then on arrives. It
	// waits for no longer than the backplane's subscribe time-out, and may be called
	// by one goroutine at a time, or not at all. When it fails, with [ErrUnavailable],
	// [ErrClosed] or the context's error, the channels are still held and will be
	// subscribed when that is possible: who does not want that calls Unsubscribe.
	//
	// Subscribe never blocks, so that it may be called under the locks that guard
	// what the subscription is for.
	Subscribe(channels ...Channel) (wait func(ctx context.Context) error)

	// Unsubscribe counts one holder less of each channel; of one without holders
	// there is nothing to do. A channel that has lost its last holder is unsubscribed
	// soon after, and what was published before may still arrive. Unsubscribe never
	// blocks.
	Unsubscribe(channels ...Channel)

	// Detach gives up the prefix and everything held, without blocking. One Deliver
	// call may be in progress, or just about to begin, when it returns; none follows.
	// Afterwards Publish and Wait calls fail with [ErrClosed] and the others do
	// nothing.
	Detach()
}

// A NodeState is one node of the roster.
type NodeState struct {
	ID string
	// Hearing says that the node, when it last told, was in no gap.
	Hearing bool
	// Address is what the node has advertised, or empty.
	Address string
}

// A NodeWatcher is a [Receiver] that wants to know of nodes that go. Calls of its methods
// come one at a time, while Deliver calls go on, and must not block: the roster waits for
// them.
type NodeWatcher interface {
	// NodeLeft tells that another node serves the prefix no longer, because its attachment
	// or its backplane has been closed: some seconds after that, and only of a node that
	// had been there for as long or that Nodes has returned. It may serve the prefix again
	// later, and what it published before may still arrive.
	NodeLeft(id string)

	// NodeDied tells that a node which served the prefix has gone from the roster
	// without having been closed, as far as this node can know: it may have been cut
	// off, and come back to the roster, or have been closed while this node was cut off
	// itself. In process, nodes do not die.
	NodeDied(id string)
}

// A Receiver is told what arrives for one attachment.
type Receiver interface {
	// Deliver hands over the body of one envelope (or, for the plain JSON form, the
	// whole of it). Calls come one at a time, in the order of arrival. Deliver must
	// neither block nor call the backplane. It may keep body, but not change it, which
	// nobody else does either.
	Deliver(ch Channel, body []byte)
}

var prefixes = regexp.MustCompile(`^([A-Za-z0-9_-]+/)?$`)

// CheckPrefix returns an error if a hub's channels cannot have the prefix. No channel of
// a hub without a prefix begins with one.
func CheckPrefix(prefix string) error {
	if !prefixes.MatchString(prefix) {
		return fmt.Errorf("channel prefix %q is not of the form [A-Za-z0-9_-]+/", prefix)
	}
	return nil
}
