package transport

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

// Transports sets the transports that clients may use. The default is WebSockets.
func Transports(kinds ...Kind) EndpointOption {
	return func(e *Endpoint) { e.transports = kinds }
}

// AllowStatefulReconnects grants stateful reconnect to the clients that ask for it when
// they negotiate. The default is not to.
func AllowStatefulReconnects() EndpointOption {
	return func(e *Endpoint) { e.statefulReconnects = true }
}
