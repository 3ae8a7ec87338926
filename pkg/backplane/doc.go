// Package backplane carries envelopes between the nodes of a cluster, by channel.
//
// A [Backplane] is one node's part of it. Hubs attach to it, each under a channel
// prefix of its own, and through their [Attachment] publish to channels, subscribe to
// channels and unsubscribe from them. What an implementation promises stands at the
// interfaces; package backplanetest holds it to every sentence. There are two: [Memory],
// for nodes in one process, and package redisplane.
//
// What travels is an [Envelope]: a header that the backplane writes (who published
// it, and where in that publisher's sequence it stands) and a body that is the hub's,
// such as a [Message]. A receiver drops what is not above the last sequence number that
// it saw from that publisher and lane, so that nothing late can reorder or double
// ([Window]). An envelope may also be plain JSON, so that any program with a Redis
// client can publish. docs/backplane.md describes all bytes for those who do.
//
// The package knows no connection: it carries bytes by channel.
package backplane
