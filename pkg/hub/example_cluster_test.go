package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/hub"
)

// Nodes share a backplane: here one within the process, in production one on Redis, of
// package redisplane. They need the same cluster keys.
func Example_cluster() {
	key := []byte("a key of the cluster, of 32 bytes")
	var bus backplane.Bus
	planes := []*backplane.Memory{bus.Join(), bus.Join()}
	one := serve(Chat{}, hub.WithBackplane(planes[0]), hub.WithClusterKeys(key))
	two := serve(Chat{}, hub.WithBackplane(planes[1]), hub.WithClusterKeys(key))
	defer func() {
		one.close()
		two.close()
		for _, p := range planes {
			p.Close()
		}
	}()

	ctx := context.Background()
	ada, ben := one.connect("ada"), two.connect("ben")
	report("join", errors.Join(ada.Invoke(ctx, "Join", "tea"), ben.Invoke(ctx, "Join", "tea")))
	report("say", ada.Invoke(ctx, "Say", "tea", "hello"))
	fmt.Println(<-ada.heard)
	fmt.Println(<-ben.heard)
	// Output:
	// join: ok
	// say: ok
	// ada says hello
	// ada says hello
}

// Two hubs may share a backplane, under different prefixes.
func ExampleWithChannelPrefix() {
	plane := backplane.NewMemory()
	defer plane.Close()
	for _, prefix := range []string{"chat/", "news/", "chat/"} {
		h, err := hub.New(Chat{}, hub.WithBackplane(plane), hub.WithChannelPrefix(prefix))
		if err != nil {
			fmt.Println(prefix, "is taken")
			continue
		}
		defer h.Shutdown(context.Background())
	}
	// Output: chat/ is taken
}

// A node that is to go closes its connections one after the other, with the advice to
// reconnect, so that the others do not get them all at once.
func ExampleHub_Drain() {
	n := serve(Chat{})
	defer n.server.Close()
	ada := n.connect("ada")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n.Drain(ctx, 5*time.Second)
	report("shut down", n.Shutdown(ctx))
	<-ada.Done()
	// Output: shut down: ok
}

// When a node dies, what it held is gone. Whoever keeps a list of who is where hears it.
func ExampleWithNodeDied() {
	chat, err := hub.New(Chat{}, hub.WithNodeDied(func(node string) { log.Print("node died: ", node) }))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(chat.Shutdown(context.Background()))
	// Output: <nil>
}
