package publish_test

import (
	"context"
	"errors"
	"log"
	"os"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
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
