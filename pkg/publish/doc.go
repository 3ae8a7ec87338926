// Package publish sends to the clients of a cluster from a program that is no node of it,
// such as a job or another service.
//
//	carrier, err := redisplane.NewPublisher("", redisplane.Options{URL: "redis://localhost"})
//	…
//	defer carrier.Close()
//	clients := publish.New(carrier)
//	err = clients.User("ada").Send(ctx, "ReceiveMessage", "hi")
//
// A message travels as those of nodes do: encoded once in each hub protocol, in the order of
// the calls, at most once. Nobody knows who gets it, nor whether anybody does.
//
// A Publisher only sends. Adding to groups, removing from them, closing and asking are for
// who can wait for the answers of nodes: with a hub of its own on a backplane that has
// [github.com/heliograph/heliograph/pkg/backplane/redisplane.Options] WithoutClients.
package publish
