package transport

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/auth"
)

// owned is a session whose user is the claim of that name, and not the subject.
type owned struct {
	diary
	user string
}

func (o *owned) Renew(_ *http.Request, identity *auth.Identity) bool {
	user, _ := identity.Claims.First("claim")
	return user == o.user
}

func TestRefresh(t *testing.T) {
	const inAnHour, inTwoHours = "&expires=in+an+hour", "&expires=in+two+hours"
	for _, tt := range []struct {
		name    string
		options []EndpointOption
		method  string
		query   string // instead of the connection's own id and user
		add     string
		status  int
		body    string
		expires time.Duration // of the connection afterwards
	}{
		{name: "later", add: inTwoHours, status: 200, body: `{"tokenLifetimeSeconds":7200}`, expires: 2 * time.Hour},
		{name: "never", status: 200, body: `{}`},
		{name: "the same", add: inAnHour, status: 200, body: `{"tokenLifetimeSeconds":3600}`, expires: time.Hour},
		{name: "other method", method: "GET", status: 405, expires: time.Hour},
		{name: "without id", query: "?user=ada", status: 400, body: `{"error":"missing_connection_token"}`, expires: time.Hour},
		{name: "unknown id", query: "?user=ada&id=x", status: 404, body: `{"error":"connection_not_found"}`, expires: time.Hour},
		{name: "without credentials", query: "?id=x", status: 401, body: `{"error":"invalid_token"}`, expires: time.Hour},
		{name: "forged credentials", query: "?user=forged&id=x", status: 401, body: `{"error":"invalid_token"}`, expires: time.Hour},
		{name: "another subject", add: "&user=ben", status: 403, body: `{"error":"permission_change_rejected"}`, expires: time.Hour},
		{name: "another user of the session", add: "&claim=other", status: 403, body: `{"error":"permission_change_rejected"}`, expires: time.Hour},
		{name: "disabled", options: []EndpointOption{CloseOnAuthenticationExpiration()}, status: 404, body: `{"error":"refresh_disabled"}`, expires: time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opened := make(chan *owned, 1)
			if tt.options == nil {
				tt.options = []EndpointOption{EnableAuthenticationRefresh(), CloseOnAuthenticationExpiration()}
			}
			_, s := serve(t, Config{Accept: func(c *Connection, _ *http.Request) Session {
				o := &owned{diary: diary{c: c}}
				opened <- o
				return o
			}}, tt.options...)
			token := negotiate(t, s, "negotiateVersion=1&user=ada").ConnectionToken
			dial(t, s, "user=ada&id="+token+inAnHour)
			c := (<-opened).c

			query := "?user=ada&id=" + token + tt.add
			if strings.Contains(tt.add, "user=") {
				query = "?id=" + token + tt.add
			}
			if tt.query != "" {
				query = tt.query
			}
			if tt.method == "" {
				tt.method = "POST"
			}
			r, err := http.NewRequest(tt.method, s.URL+"/hub/refresh"+query, nil)
			if err != nil {
				t.Fatal(err)
			}
			status, kind, body := do(t, r)
			if body != "" && kind != "application/json" {
				t.Errorf("content type %q", kind)
			}
			body = strings.NewReplacer("7199", "7200", "3599", "3600").Replace(body) // a second may have passed
			if status != tt.status || body != tt.body {
				t.Errorf("got %d %s, want %d %s", status, body, tt.status, tt.body)
			}
			var expires time.Duration
			if !c.Expires().IsZero() {
				expires = time.Until(c.Expires()).Round(10 * time.Minute)
			}
			if expires != tt.expires {
				t.Errorf("expires in %v, want %v", expires, tt.expires)
			}
		})
	}
}

// Credentials that end sooner than those that the connection has are not taken, nor what
// they say.
func TestRefreshThatEndsSooner(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept}, EnableAuthenticationRefresh())
	token := negotiate(t, s, "negotiateVersion=1&user=ada").ConnectionToken
	dial(t, s, "user=ada&claim=first&expires=in+two+hours&id="+token)
	d := <-opened
	for _, tt := range []struct{ query, want, lifetime string }{
		{"&claim=sooner&expires=in+an+hour", "first", `{"tokenLifetimeSeconds":7`},
		{"&claim=as+long&expires=in+two+hours", "as long", `{"tokenLifetimeSeconds":7`},
		{"&claim=for+ever", "for ever", `{}`},
		{"&claim=sooner&expires=in+two+hours", "for ever", `{}`},
	} {
		r, err := http.NewRequest("POST", s.URL+"/hub/refresh?user=ada&id="+token+tt.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, body := do(t, r); status != 200 || !strings.HasPrefix(body, tt.lifetime) {
			t.Errorf("%s: %d %s", tt.query, status, body)
		}
		if got, _ := d.c.Identity().Claims.First("claim"); got != tt.want {
			t.Errorf("%s: the claim is %q, want %q", tt.query, got, tt.want)
		}
	}
}

// There is nothing to refresh of what has no transport yet, has ended, or has no secret.
func TestRefreshOfNothing(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept}, EnableAuthenticationRefresh())
	n := negotiate(t, s, "negotiateVersion=1&user=ada")
	zero := negotiate(t, s, "user=ada").ConnectionID
	dial(t, s, "user=ada&id="+zero)
	<-opened
	for id, want := range map[string]string{
		n.ConnectionToken: `404 {"error":"connection_not_found"}`,
		zero:              `400 {"error":"unsupported_negotiate_version"}`,
	} {
		r, err := http.NewRequest("POST", s.URL+"/hub/refresh?user=ada&id="+id, nil)
		if err != nil {
			t.Fatal(err)
		}
		status, _, body := do(t, r)
		if got := fmt.Sprint(status, " ", body); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A poll, and a WebSocket that takes over, bring the credentials of their request.
func TestLaterRequestsRefresh(t *testing.T) {
	renewable := func(opened chan *owned) Accept {
		return func(c *Connection, _ *http.Request) Session {
			o := &owned{diary: diary{c: c, carrier: c.Carrier()}, user: "same"}
			c.AllowReconnect()
			opened <- o
			return o
		}
	}
	t.Run("poll", func(t *testing.T) {
		opened := make(chan *owned, 1)
		_, s := serve(t, Config{Accept: renewable(opened)}, LongPollingTimeout(time.Millisecond), CloseOnAuthenticationExpiration())
		query := "user=ada&claim=same&id=" + negotiate(t, s, "negotiateVersion=1&user=ada").ConnectionToken
		expectPoll(t, s, query+"&expires=in+an+hour", `200 application/octet-stream ""`)
		c := (<-opened).c
		expectPoll(t, s, query+"&expires=in+two+hours", `200 text/plain ""`)
		if in := time.Until(c.Expires()); in < time.Hour+time.Minute {
			t.Errorf("expires in %v", in)
		}
		expectPoll(t, s, strings.Replace(query, "same", "other", 1), `403 text/plain ""`)
		expectPoll(t, s, query, `200 text/plain ""`)
	})
	t.Run("WebSocket", func(t *testing.T) {
		opened := make(chan *owned, 1)
		_, s := serve(t, Config{Accept: renewable(opened)}, AllowStatefulReconnects(), CloseOnAuthenticationExpiration())
		query := "user=ada&claim=same&id=" + negotiate(t, s, "negotiateVersion=1&useStatefulReconnect=true&user=ada").ConnectionToken
		dial(t, s, query+"&expires=in+an+hour")
		o := <-opened
		if _, answer := dial(t, s, strings.Replace(query, "same", "other", 1)); answer.StatusCode != 403 {
			t.Errorf("another user: %d", answer.StatusCode)
		}
		dial(t, s, query+"&expires=in+two+hours")
		await.Until(t, "the WebSocket has taken over", func() error {
			if got := o.String(); !strings.Contains(got, "resumed") {
				return fmt.Errorf("diary: %s", got)
			}
			return nil
		})
		if in := time.Until(o.c.Expires()); in < time.Hour+time.Minute {
			t.Errorf("expires in %v", in)
		}
	})
}
