// Package redisplane connects the nodes of a cluster through the pub/sub of Redis: one, which
// may be the master that sentinels name, or the masters of a Redis Cluster.
//
//	plane, err := redisplane.New(redisplane.Options{URL: "redis://localhost"})
//	…
//	defer plane.Close()
//	h, err := hub.New(Chat{}, hub.WithBackplane(plane))
//
// A channel is a Redis channel of the same name, behind the hub's prefix, and in a cluster
// behind a tag that says in which slot it is. What nodes put
// on channels, and what others may, is documented at [backplane.Envelope]. Nothing is
// kept in Redis but the roster, the homes of connections and the last operations, whose keys
// all have a time to live.
//
// # Partitions
//
// A partition is the part of the channels that share one order: published by a node over one
// connection, at one Redis, and heard over one other. There is one, but for the sharded
// channels of a Redis Cluster. A subscription connection cannot have channels of two slots
// there, so they lie in 16 partitions or as many as the URL says, each in one slot (layout).
// Each has its own connections, probe, gaps and stream of operations, and its number is the
// lane of its envelopes. It begins when a channel in it is first held or published on, and
// lasts until Close. Partition 0 is always there: it has All, the nodes' own channels, the
// roster and the homes of connections.
//
// Nodes that do not have the same partitions would miss each other's messages. They see it in
// each other's announcements; the one that started later counts itself deaf (agreement).
//
// # Connections
//
// Of each partition, one connection publishes. Whatever is waiting when Redis has answered
// the last pipeline becomes the next one; nothing waits for a pipeline to fill. Envelopes
// are numbered in the order of sending, and nothing is sent twice: a Publish call whose
// envelope was written and not answered fails with [backplane.ErrUnknown], all others that
// fail with [backplane.ErrNotSent].
//
// Another subscribes, and receives. Any error ends it; then everything that
// is held is subscribed again on a new one, in commands of 100 channels, first what
// somebody waits for. Which channels are held, and which are in force, is kept in one
// table (subscriptions) that does no I/O: so that an order of events that would lose a
// join can be written down as a test.
//
// Connecting is tried for as long as the plane is open, after pauses at random of up to
// 2s.
//
// The third, made when it is needed, is for operations that are kept, and in partition 0 for
// the homes of connections (commander). Calls
// that come while a pipeline is in flight make the next one together, so that a thousand
// claims at a time need no thousand connections. A call fails in time and is not sent
// again; who wants the outcome asks Redis what is there now. That the record is this
// node's own is decided by a script in Redis, by how the record begins: it needs to know
// neither keys nor clocks.
//
// The fourth, in partition 0 alone, is the roster's. Who uses it, for an announcement or for
// Nodes, does so alone, and cuts it when the context ends.
//
// # Where Redis is
//
// All connections of a partition lead to one site: an address, or the master that sentinels
// name, or the one of a Redis Cluster that has the partition's slot. Its keys are all in that
// slot too. A server is asked for its role before anything else is sent to it, and a replica
// is left: it takes what is published, but hands it to its own subscribers alone. So does a
// former master that still runs. Therefore sentinels, or the cluster's servers, are asked all
// the time, by connections of their own, for all partitions at once (lookout), and when they
// name another for one, what leads elsewhere is cut there. Connecting anew is then as after
// any loss: nothing is sent twice. The same is done when a server says that a slot has moved,
// in reply to a command or by ending subscriptions.
//
// A [Publisher], for programs that are no nodes, has the first connections alone. One that
// asks nodes for what hubs can ask has all, and Options.WithoutClients.
//
// # What a node knows of its hearing
//
// A connection on which nothing comes may be one on which nothing is published, or be dead.
// So the node publishes a probe to its own channel every few seconds, on the way of all
// messages in each partition, and expects it back: Healthy says whether all came. A node
// that has not heard its probe for two intervals makes both connections anew. While others
// are heard it is given ten: it may be behind with reading, and would lose what it has not
// read.
//
// A gap begins when the node learns of it, by a probe that was missed or the loss of the
// connection, but is dated back to the last probe that was heard, and when that was sent:
// Redis may have taken since, and not handed on, what was published, if it was killed or
// has cut off a node that was behind. It lasts until all is subscribed again and a probe
// was heard. What was published in a gap may not have arrived. Each partition has its own.
// Gaps are logged, and counted with their lengths. Nodes learn of a new master at different
// times, so the gap then begins 3s before this one has, and lasts for as long after that.
//
// # Operations that were missed
//
// What is published with PublishKept is first appended to a stream, one for each prefix in
// each partition (keeper). A node notes which operations it has heard and up to which entry
// of the stream it has performed all (ledger). On a new connection it holds back what
// arrives (gate) until everything is subscribed; then it reads the stream from that entry
// on, performs what it has not heard, and goes on with what it has held. An operation that
// is published after the reading is heard, and one that was published before it is in the
// stream: so none is missed, and what was heard or read once is not performed again. The
// reading is taken in when a probe that was sent after it is heard, on the receive loop, so
// in order with everything else. Where the entry is not in the stream any more, because
// that has been trimmed, operations may have been missed, and the hub is told. A stream too
// short for that is a new one, of a Redis that has lost its data: then who asked for what
// was missed has been told that this node did not answer, and all that is in the new one is
// read.
//
// Every interval of the probe the stream is read in the same way, without holding anything
// back: the ledger gets on, and what was kept and could then not be published is performed.
//
// # The roster
//
// Every interval of the probe, and when there is something new to say, a node writes an
// announcement of itself, signed and with a time to live of five intervals, and reads
// those of all nodes. One that has gone without the word that its node has left was of a
// node that died, of which a [backplane.NodeWatcher] is told (census). But if the node's
// own announcement has gone as well, Redis has lost them, or the node was cut off; then
// all have five intervals to announce themselves again.
//
// Who asks for one node is told from what the last look has found (directory), and only
// where that does not know it by a look of its own, once for each such node between two
// looks.
//
// What is waited for with Subscribe is in force when it is subscribed and the node is
// announced, since it last connected in partition 0, to serve the prefix: so who reads the
// roster afterwards finds it there.
//
// # Goroutines
//
// Those marked * are there once for each partition in use.
//
//	goroutine     owner                       ends when            bound on its queue
//	lane *        Plane or Publisher, joined  Close                MaxQueuedBytes, MaxQueuedMessages
//	subscriber *  Plane, joined by Close      Close                none here: Redis ends the connection
//	                                                               of a client that reads too slowly
//	writer        subscriber, joined by it    the connection ends  two entries per channel
//	prober *      Plane, joined by Close      Close                one probe
//	roster        Plane, joined by Close      Close, and a second  one announcement
//	                                          to sign off
//	commander *   Plane, joined by Close      nothing waits        16384 commands
//	keeper *      Plane, joined by Close      Close                one reading, of what the streams have;
//	                                                               16 MiB of what has arrived meanwhile
//	lookout       Plane or Publisher, joined  Close, last of all   one look
//	question      lookout, joined by it       DialTimeout / 2      one for each sentinel, or
//	                                                               server of the URL
//	dial          link, joined by its close   connected, DialTimeout, or Close
//
// # Locks
//
// From the outermost to the innermost; none is held across I/O or a wait, and none but the
// first across Deliver and its like:
//
//	Plane.arrivals    which receive loop has its turn
//	attachments.mu    which prefixes are attached
//	shelf.mu          which partitions, or lanes, there are
//	keeper.mu         which reading there is to take
//	attachment.mu     which ledgers there are
//	ledger.mu         which operations have been heard
//	subscriber.mu     the table of channels
//	site.mu           which links there are
//	health.mu         whether the node hears
//	lookout.mu        which addresses are the masters'
//	outlet.mu         over which link is sent
//	link.mu           the socket
//
// and, each by itself, lane.mu and commander.mu (the queues), roster.mu (what has been
// announced), agreement.mu (whether nodes agree) and directory.mu (who is known).
package redisplane
