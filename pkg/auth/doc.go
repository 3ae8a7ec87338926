// Package auth turns HTTP requests into identities.
//
// An [Authenticator] looks at a request and says who makes it: somebody, nobody in
// particular, or somebody who must be refused. [HS256] is the one for JSON Web Tokens
// signed with a shared secret; an application may bring its own.
//
// The package decides who a caller is, never what the caller may do.
package auth
