package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxRedirects is how often a server may send the client elsewhere.
const maxRedirects = 100

// maxNegotiationBytes bounds the answer to a negotiation.
const maxNegotiationBytes = 64 << 10

// An endpoint is where and how to open the WebSocket of one connection.
type endpoint struct {
	address      *url.URL // http or https, and without the token
	header       http.Header
	token        string // secret; empty if nothing was negotiated
	connectionID string // empty if nothing was negotiated
}

// negotiation is the server's answer (TransportProtocols,
// "POST [endpoint-base]/negotiate").
type negotiation struct {
	Error               string
	ProtocolVersion     string // of a server of ASP.NET SignalR, which is something else
	URL                 string
	AccessToken         string
	NegotiateVersion    int
	ConnectionID        string
	ConnectionToken     string
	AvailableTransports []struct {
		Transport       string
		TransferFormats []string
	}
}

// negotiate finds out where to connect to.
func (c *Client) negotiate(ctx context.Context) (*endpoint, error) {
	e := &endpoint{address: c.address, header: c.header.Clone()}
	if e.header == nil {
		e.header = make(http.Header)
	}
	if c.token != nil {
		token, err := c.token(ctx)
		if err != nil {
			return nil, fmt.Errorf("access token: %w", err)
		}
		e.authorize(token)
	}
	if c.skipNegotiation {
		return e, nil
	}
	for range maxRedirects + 1 {
		answer, err := c.ask(ctx, e)
		if err != nil {
			return nil, err
		}
		if answer.URL == "" {
			return e, c.accept(e, answer)
		}
		if e.address, err = parseAddress(answer.URL); err != nil {
			return nil, fmt.Errorf("redirect: %w", err)
		}
		e.authorize(answer.AccessToken)
	}
	return nil, fmt.Errorf("more than %d redirects", maxRedirects)
}

// authorize sets the bearer token, if there is a new one.
func (e *endpoint) authorize(token string) {
	if token != "" {
		e.header.Set("Authorization", "Bearer "+token)
	}
}

// ask makes one request.
func (c *Client) ask(ctx context.Context, e *endpoint) (*negotiation, error) {
	address := withQuery(e.address.JoinPath("negotiate"), "negotiateVersion", "1")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header = e.header.Clone()
	// Without it, servers of ASP.NET Core redirect to a login page instead of refusing.
	request.Header.Set("X-Requested-With", "XMLHttpRequest")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, statusError(response)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxNegotiationBytes))
	if err != nil {
		return nil, err
	}
	answer := new(negotiation)
	if err := json.Unmarshal(body, answer); err != nil {
		return nil, fmt.Errorf("server's answer: %w", err)
	}
	switch {
	case answer.Error != "":
		return nil, &Error{Message: answer.Error}
	case answer.ProtocolVersion != "":
		return nil, errors.New("server is one of ASP.NET SignalR, not of ASP.NET Core SignalR")
	}
	return answer, nil
}

// accept takes over what the server offers, if the client can use it.
func (c *Client) accept(e *endpoint, answer *negotiation) error {
	e.connectionID, e.token = answer.ConnectionID, answer.ConnectionToken
	if answer.NegotiateVersion < 1 {
		e.token = answer.ConnectionID
	}
	if e.token == "" {
		return errors.New("server's answer has no connection token")
	}
	format := c.protocol.TransferFormat().String()
	for _, t := range answer.AvailableTransports {
		if t.Transport == "WebSockets" && slices.Contains(t.TransferFormats, format) {
			return nil
		}
	}
	return fmt.Errorf("server offers no WebSockets with transfer format %s", format)
}

// webSocketAddress is what to open.
func (e *endpoint) webSocketAddress() *url.URL {
	address := *e.address
	if e.token != "" {
		address = *withQuery(&address, "id", e.token)
	}
	address.Scheme = strings.Replace(address.Scheme, "http", "ws", 1)
	return &address
}

// parseAddress reads the address of a hub. The schemes ws and wss stand for http and
// https.
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "ws", "wss":
		u.Scheme = strings.Replace(u.Scheme, "ws", "http", 1)
	case "http", "https":
	default:
		return nil, fmt.Errorf("address %q does not begin with http:// or https://", u.Redacted())
	}
	if u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("address %q: want a host, and no user", u.Redacted())
	}
	u.Fragment = ""
	return u, nil
}

// withQuery returns u with one parameter more.
func withQuery(u *url.URL, key, value string) *url.URL {
	v := *u
	if v.RawQuery != "" {
		v.RawQuery += "&"
	}
	v.RawQuery += key + "=" + url.QueryEscape(value)
	return &v
}
