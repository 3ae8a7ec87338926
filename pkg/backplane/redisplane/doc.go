// Package redisplane connects the nodes of a cluster through Redis pub/sub.
package redisplane
