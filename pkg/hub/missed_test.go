package hub

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// deafen has a node hear nothing any more, until it finds out and connects anew.
func (v *vessel) deafen(t *testing.T) {
	t.Helper()
	pipes := v.proxy.Subscribers()
	if len(pipes) != 1 {
		t.Fatalf("%d subscription connections", len(pipes))
	}
	pipes[0].Freeze(redistest.ToClient)
	t.Cleanup(func() { pipes[0].Thaw(redistest.ToClient) })
}

// expectUnanswered expects an error that names this node.
func (v *vessel) expectUnanswered(t *testing.T, err error) {
	t.Helper()
	unanswered, ok := errors.AsType[*UnansweredError](err)
	if want := []string{v.plane.NodeID()}; !ok || !slices.Equal(unanswered.Nodes, want) {
		t.Fatalf("got %v, want %v named", err, want)
	}
}

// awaitClosed waits until the connection has been closed.
func (s *sailor) awaitClosed(t *testing.T) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(await.Deadline):
		t.Fatal("the connection was not closed")
	}
}

// A node that was deaf to a revocation delivers nothing before that is in force: here to a
// group that is sent to all the time.
func TestRevocationWhileDeaf(t *testing.T) {
	for name, revoke := range map[string]func(ctx context.Context, h *Hub, ada string) error{
		"user from group": func(ctx context.Context, h *Hub, _ string) error {
			return h.Groups().RemoveUser(ctx, "ada", "room")
		},
		"user from all groups": func(ctx context.Context, h *Hub, _ string) error {
			return h.Groups().RemoveUserFromAll(ctx, "ada")
		},
		"connection from group": func(ctx context.Context, h *Hub, ada string) error {
			return h.Groups().Remove(ctx, ada, "room")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 3, time.Second, WithOperationTimeout(500*time.Millisecond))
			asks, deaf, sends := f.nodes[0], f.nodes[1], f.nodes[2]
			ada, ben := deaf.board(t, "ada", protocol.JSON), deaf.board(t, "ben", protocol.MessagePack)
			for _, s := range []*sailor{ada, ben} {
				if err := s.Invoke(t.Context(), "Join", "room"); err != nil {
					t.Fatal(err)
				}
			}
			deaf.deafen(t)
			err := revoke(t.Context(), asks.Hub, ada.id)
			if strings.HasPrefix(name, "user") {
				deaf.expectUnanswered(t, err)
			} else if !errors.Is(err, backplane.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
			await.Until(t, "the others hear the room again", func() error {
				sends.say(t, sends.Clients().Group("room"), "secret")
				select {
				case <-ben.heard:
					return nil
				default:
					return errors.New("they do not")
				}
			})
			deaf.say(t, sends.Clients().User("ada"), "end")
			ada.expect(t, "end")
			if err := asks.Groups().RemoveUser(t.Context(), "ada", "room"); err != nil {
				t.Errorf("once it hears: %v", err)
			}
		})
	}
}

// The same for closing, and for being added: of that, who came later is not meant.
func TestMissedWhileDeaf(t *testing.T) {
	f := newFleet(t, 2, time.Second, WithOperationTimeout(500*time.Millisecond))
	asks, deaf := f.nodes[0], f.nodes[1]
	ada, ben := deaf.board(t, "ada", protocol.JSON), deaf.board(t, "ben", protocol.JSON)
	deaf.deafen(t)
	deaf.expectUnanswered(t, asks.CloseUser(t.Context(), "ada", Reason("banned")))
	deaf.expectUnanswered(t, asks.Groups().AddUser(t.Context(), "ben", "room"))
	deaf.expectUnanswered(t, asks.Groups().AddUser(t.Context(), "ben", "hall"))
	deaf.expectUnanswered(t, asks.Groups().RemoveUser(t.Context(), "ben", "hall"))
	later := deaf.board(t, "ben", protocol.JSON)
	ada.awaitClosed(t)
	if err := ada.Err(); err == nil || !strings.Contains(err.Error(), "banned") {
		t.Errorf("it ended with %v", err)
	}
	await.Until(t, "ben is in the room", func() error {
		asks.say(t, asks.Clients().Group("room"), "hello")
		select {
		case <-ben.heard:
			return nil
		default:
			return errors.New("he is not")
		}
	})
	if deaf.isMember("hall") {
		t.Error("a removal was undone")
	}
	asks.say(t, asks.Clients().Clients(later.id), "end")
	later.expect(t, "end")
}

// Where it cannot be known any more what a node has missed, its clients are told to come
// again; those of nodes that heard all of it are not. Where Redis has lost what it kept, as
// when it is started anew, they stay: whoever asked for what was missed knows that the node
// did not answer.
func TestMissedOperationsAreLost(t *testing.T) {
	const stream = "heliograph:operations:"
	for name, lose := range map[string]func(ctx context.Context, f *fleet) error{
		"trimmed": func(ctx context.Context, f *fleet) error {
			p := f.redis.Client().Pipeline()
			for range 10_000 {
				p.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"node", "busy"}})
			}
			p.XTrimMaxLen(ctx, stream, 10_000)
			_, err := p.Exec(ctx)
			return err
		},
		"gone": func(ctx context.Context, f *fleet) error { return f.redis.Client().Del(ctx, stream).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 2, time.Second, WithOperationTimeout(500*time.Millisecond))
			asks, deaf := f.nodes[0], f.nodes[1]
			ada, ben := deaf.board(t, "ada", protocol.JSON), asks.board(t, "ben", protocol.JSON)
			deaf.deafen(t)
			deaf.expectUnanswered(t, asks.Groups().RemoveUser(t.Context(), "ada", "room"))
			deaf.expectUnanswered(t, asks.Groups().RemoveUser(t.Context(), "ada", "hall"))
			if err := lose(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			if name == "gone" {
				await.Until(t, "ada, who has stayed, hears again", func() error {
					asks.say(t, asks.Clients().User("ada"), "hello")
					select {
					case <-ada.heard:
						return nil
					default:
						return errors.New("she does not")
					}
				})
			} else {
				ada.awaitClosed(t)
				await.Until(t, "the node hears", deaf.plane.Healthy)
				ada = deaf.board(t, "ada", protocol.JSON)
				asks.say(t, asks.Clients().All(), "hello")
				ada.expect(t, "hello")
				ben.expect(t, "hello")
			}
			if err := asks.Groups().RemoveUser(t.Context(), "ada", "room"); err != nil {
				t.Error(err)
			}
		})
	}
}
