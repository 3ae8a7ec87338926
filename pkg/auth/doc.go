// Package auth turns HTTP requests into identities, and says what an identity must be
// to do something.
//
// An [Authenticator] looks at a request and says who makes it: somebody, nobody in
// particular, or somebody who must be refused. [JWT] is the one for JSON Web Tokens,
// whose keys are given ([NewKey]) or published by the issuer ([NewJWKS]); [HS256] makes
// one for the simplest case, a shared secret. For cookies, API keys or client
// certificates an application writes a function ([AuthenticatorFunc]), and [FirstOf]
// tries several.
//
// A [Requirement] says whether an identity will do. There are some to begin with, any
// function may be one, and [All] and [Any] combine them.
//
// Everything here may be used concurrently. Nothing runs in the background but the one
// goroutine of each [JWKS], which ends with its Close.
package auth
