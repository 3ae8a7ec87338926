package publish_test

import (
	"context"
	"errors"
	"log"
	"os"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/publish"
)

// The key is the cluster's. It is needed where nodes demand that all is signed.
func Example() {
	carrier, err := redisplane.NewPublisher("", redisplane.Options{
		URL:  os.Getenv("HELIOGRAPH_REDIS"),
		Keys: [][]byte{[]byte(os.Getenv("HELIOGRAPH_CLUSTER_KEY"))},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer carrier.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	clients := publish.New(carrier)
	if err := clients.User("ada").Send(ctx, "ReceiveMessage", "your invoice is paid"); err != nil {
		log.Print(err)
	}
	if err := clients.Group("billing").Send(ctx, "Paid", map[string]any{"invoice": 17, "by": "ada"}); err != nil {
		log.Print(err)
	}
}

// Who wants more than to send has a hub that is served to nobody, on a backplane that no
// node waits for: it asks the nodes, and returns when they have done it.
func Example_operations() {
	key := []byte(os.Getenv("HELIOGRAPH_CLUSTER_KEY"))
	plane, err := redisplane.New(redisplane.Options{
		URL: os.Getenv("HELIOGRAPH_REDIS"), Keys: [][]byte{key}, WithoutClients: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer plane.Close()
	cluster, err := hub.New(struct{}{}, hub.WithBackplane(plane), hub.WithClusterKeys(key))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	defer cluster.Shutdown(ctx)

	for plane.Healthy() != nil && ctx.Err() == nil { // answers would not be heard
		time.Sleep(50 * time.Millisecond)
	}
	if err := cluster.Groups().RemoveUser(ctx, "ada", "billing"); err != nil {
		log.Print(err) // names the nodes that have not answered
	}
}

// Only what surely was not sent can be sent again without sending it twice.
func ExampleClients_Send() {
	carrier, err := redisplane.NewPublisher("chat/", redisplane.Options{URL: "redis://localhost"})
	if err != nil {
		log.Fatal(err)
	}
	defer carrier.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	everybody := publish.New(carrier).All()
	for {
		err := everybody.Send(ctx, "Announce", "the shop closes in an hour")
		if !errors.Is(err, backplane.ErrNotSent) || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Second)
	}
}
