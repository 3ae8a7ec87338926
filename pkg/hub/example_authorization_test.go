package hub_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/transport"
)

// Rooms is a hub where not everybody may enter every room.
type Rooms struct{}

// Enter makes the caller a member of the room's group, if the join authorizer agrees.
func (Rooms) Enter(ctx context.Context, c *hub.Caller, room string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), room, hub.UntilCredentialsExpire(c))
}

// Say sends a text to everybody in the room.
func (Rooms) Say(ctx context.Context, c *hub.Caller, room, text string) error {
	return c.Clients().Group(room).Send(ctx, "Said", c.UserIdentifier(), text)
}

// Announce sends a text to everybody.
func (Rooms) Announce(ctx context.Context, c *hub.Caller, text string) error {
	return c.Clients().All().Send(ctx, "Announced", text)
}

// A GuestList knows who may enter which room, and until when. An application has it in
// its database.
type GuestList struct {
	mu     sync.Mutex
	guests map[guest]time.Time // until when; zero: for good
}

type guest struct{ user, room string }

// Admit is the join authorizer: the membership that it allows ends with the invitation.
func (l *GuestList) Admit(_ context.Context, c *hub.Caller, room string) (until time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, invited := l.guests[guest{c.UserIdentifier(), room}]
	if !invited || !until.IsZero() && !time.Now().Before(until) {
		return until, &hub.Error{Message: "you may not enter the " + room}
	}
	return until, nil
}

// Guests is the filter of methods whose first argument is a room.
func (l *GuestList) Guests() hub.Filter {
	return hub.Filter{Invoke: func(ctx context.Context, i *hub.Invocation, next hub.InvokeFunc) (any, error) {
		room := i.Arguments[0].(string)
		if _, err := l.Admit(ctx, i.Caller, room); err != nil {
			return nil, err
		}
		return next(ctx, i)
	}}
}

// Expel takes an invitation back, and the user out of the room. What is sent to the room
// once it has returned nil does not reach the user, on whatever node.
func (l *GuestList) Expel(ctx context.Context, rooms *hub.Hub, user, room string) error {
	l.strike(user, room) // first, so that nobody comes back in
	return rooms.Groups().RemoveUser(ctx, user, room)
}

// Ban does the same for all rooms, and closes the user's connections.
func (l *GuestList) Ban(ctx context.Context, rooms *hub.Hub, user string) error {
	l.strikeAll(user)
	return rooms.CloseUser(ctx, user, hub.Reason("You are banned."))
}

func (l *GuestList) invite(user, room string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guests[guest{user, room}] = until
}

func (l *GuestList) strike(user, room string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.guests, guest{user, room})
}

func (l *GuestList) strikeAll(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.guests, func(g guest, _ time.Time) bool { return g.user == user })
}

// scope requires one of the scopes of an access token.
func scope(name string) auth.Requirement {
	return func(_ context.Context, id *auth.Identity) error {
		scopes, _ := id.Claims.First("scope")
		if !slices.Contains(strings.Fields(scopes), name) {
			return fmt.Errorf("no scope %s", name)
		}
		return nil
	}
}

// newRooms returns the hub, and what serves it.
func newRooms(tokens auth.Authenticator, guests *GuestList) (*hub.Hub, http.Handler, error) {
	rooms, err := hub.New(Rooms{},
		hub.WithAuthenticator(tokens),
		hub.WithAuthorization(auth.Authenticated(), scope("rooms")),
		hub.WithMethod("Announce", hub.Requires(auth.Role("moderator"))),
		hub.WithMethod("Say", hub.FilteredBy(guests.Guests())),
		hub.WithJoinAuthorizer(guests.Admit))
	if err != nil {
		return nil, nil, err
	}
	endpoint := rooms.Endpoint(transport.CloseOnAuthenticationExpiration())
	mux := http.NewServeMux()
	mux.Handle("/rooms", endpoint)
	mux.Handle("/rooms/", endpoint)
	return rooms, mux, nil
}

// Who may connect, invoke a method, enter a room, speak in it.
func Example_authorization() {
	s := serveRooms()
	defer s.close()
	s.guests.invite("ada", "attic", time.Time{})
	s.guests.invite("ada", "cellar", time.Now().Add(-time.Minute))

	s.connect(nil)
	s.connect(jwt.MapClaims{"sub": "eve", "scope": "mail"})
	ada := s.connect(jwt.MapClaims{"sub": "ada", "scope": "rooms"})
	defer ada.Close()
	ben := s.connect(jwt.MapClaims{"sub": "ben", "scope": "mail rooms", "role": "moderator"})
	defer ben.Close()

	ctx := context.Background()
	report("ada announces", ada.Invoke(ctx, "Announce", "Tea is ready."))
	report("ben announces", ben.Invoke(ctx, "Announce", "Tea is ready."))
	report("ada enters", ada.Invoke(ctx, "Enter", "attic"))
	report("ada enters", ada.Invoke(ctx, "Enter", "cellar"))
	report("ben enters", ben.Invoke(ctx, "Enter", "attic"))
	report("ada says", ada.Invoke(ctx, "Say", "attic", "Hello?"))
	report("ben says", ben.Invoke(ctx, "Say", "attic", "Boo!"))
	// Output:
	// connect: 401 Unauthorized
	// connect: 403 Forbidden
	// ada announces: Failed to invoke 'Announce' because user is unauthorized
	// ben announces: ok
	// ada enters: ok
	// ada enters: An unexpected error occurred invoking 'Enter' on the server. HubException: you may not enter the cellar
	// ben enters: An unexpected error occurred invoking 'Enter' on the server. HubException: you may not enter the attic
	// ada says: ok
	// ben says: An unexpected error occurred invoking 'Say' on the server. HubException: you may not enter the attic
}

// What was allowed is taken back.
func Example_revocation() {
	s := serveRooms()
	defer s.close()
	s.guests.invite("ada", "attic", time.Time{})
	ada := s.connect(jwt.MapClaims{"sub": "ada", "scope": "rooms"})
	defer ada.Close()
	heard := make(chan string, 10)
	hear := func(_, text string) { heard <- text }
	if err := errors.Join(ada.On("Said", hear), ada.On("Whispered", hear)); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	say := func(text string) { report("say", s.rooms.Clients().Group("attic").Send(ctx, "Said", "ben", text)) }
	report("ada enters", ada.Invoke(ctx, "Enter", "attic"))
	say("Ada is here.")
	report("expel", s.guests.Expel(ctx, s.rooms, "ada", "attic"))
	say("Ada is gone.")
	report("whisper", s.rooms.Clients().User("ada").Send(ctx, "Whispered", "ben", "Sorry."))
	for range 2 {
		fmt.Println("ada hears:", <-heard)
	}
	report("ada enters", ada.Invoke(ctx, "Enter", "attic"))
	report("ban", s.guests.Ban(ctx, s.rooms, "ada"))
	<-ada.Done()
	report("ada", ada.Err())
	// Output:
	// ada enters: ok
	// say: ok
	// expel: ok
	// say: ok
	// whisper: ok
	// ada hears: Ada is here.
	// ada hears: Sorry.
	// ada enters: An unexpected error occurred invoking 'Enter' on the server. HubException: you may not enter the attic
	// ban: ok
	// ada: You are banned.
}

// server is the hub of this file, on loopback.
type server struct {
	*httptest.Server
	rooms  *hub.Hub
	guests *GuestList
}

func serveRooms() *server {
	tokens, err := auth.HS256(secret)
	if err != nil {
		log.Fatal(err)
	}
	s := &server{guests: &GuestList{guests: make(map[guest]time.Time)}}
	rooms, handler, err := newRooms(tokens, s.guests)
	if err != nil {
		log.Fatal(err)
	}
	s.rooms, s.Server = rooms, httptest.NewServer(handler)
	return s
}

func (s *server) close() {
	if err := s.rooms.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	s.Close()
}

// connect starts a client with a token of the claims, or says why it cannot.
func (s *server) connect(claims jwt.MapClaims) *client.Client {
	c, err := client.New(s.URL+"/rooms", client.WithAccessToken(func(context.Context) (string, error) { return token(claims), nil }))
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		report("connect", err)
		return nil
	}
	return c
}

var secret = []byte("a shared secret of thirty-two bytes or more")

// token signs the claims; no claims are no token.
func token(claims jwt.MapClaims) string {
	if claims == nil {
		return ""
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
	if err != nil {
		log.Fatal(err)
	}
	return signed
}

// report prints what a client learns.
func report(what string, err error) {
	text := "ok"
	if refused, ok := errors.AsType[*client.StatusError](err); ok {
		text = fmt.Sprint(refused.StatusCode, " ", http.StatusText(refused.StatusCode))
	} else if refused, ok := errors.AsType[*client.Error](err); ok {
		text = refused.Message
	} else if err != nil {
		text = err.Error()
	}
	fmt.Println(what+":", text)
}
