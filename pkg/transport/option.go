package transport

import "time"

// An EndpointOption adjusts an Endpoint.
type EndpointOption func(*Endpoint)

// RequireAuthenticated answers 401 to every request without valid credentials. By
// default only invalid ones are refused.
func RequireAuthenticated() EndpointOption {
	return func(e *Endpoint) { e.requireAuthenticated = true }
}

// CloseOnAuthenticationExpiration closes connections when the credentials that
// opened them end. The default is to check credentials only when a request is made.
func CloseOnAuthenticationExpiration() EndpointOption {
	return func(e *Endpoint) { e.closeOnExpiry = true }
}

// MinimumNegotiateVersion refuses clients that negotiate a lower version. The
// default is 0, which allows all; 1 is the highest.
func MinimumNegotiateVersion(v int) EndpointOption {
	return func(e *Endpoint) { e.minimumVersion = v }
}

// Transports sets the transports that clients may use. The default is all three.
func Transports(kinds ...Kind) EndpointOption {
	return func(e *Endpoint) { e.transports = kinds }
}

// AllowStatefulReconnects grants stateful reconnect to the clients that ask for it when
// they negotiate. The default is not to.
func AllowStatefulReconnects() EndpointOption {
	return func(e *Endpoint) { e.statefulReconnects = true }
}

// LongPollingTimeout sets how long a poll waits for something to send before it is
// answered that there is nothing, and the client asks again. The default is 90s. The
// official clients give up after 100s.
func LongPollingTimeout(d time.Duration) EndpointOption {
	return func(e *Endpoint) { e.pollTimeout = d }
}

// MaximumRequestBody bounds the body of a POST, by which clients send that have no
// WebSocket, in bytes. The default is 30,000,000; more is answered 413.
func MaximumRequestBody(bytes int64) EndpointOption {
	return func(e *Endpoint) { e.maximumBody = bytes }
}

// EnableAuthenticationRefresh lets clients bring new credentials for a connection that
// there is, by POST …/refresh, and tells them at the negotiation for how long those are
// good that they have. The default is not to.
func EnableAuthenticationRefresh() EndpointOption {
	return func(e *Endpoint) { e.refreshes = true }
}
