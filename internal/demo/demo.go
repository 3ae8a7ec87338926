// Package demo serves a page to try a node out with: sign in under any name, open
// connections, and see what users and groups are.
package demo

import (
	"embed"
	"net/http"
	"strings"
)

// page is what the browser loads. See README.md.
//
//go:embed page
var page embed.FS

// contentSecurityPolicy lets the page load its own files and speak to its own node, and
// nothing else. A page that could be framed, or that ran what somebody typed, could be
// made to send in a person's name.
var contentSecurityPolicy = strings.Join([]string{
	"default-src 'none'",
	"script-src 'self'",
	"style-src 'self'",
	"connect-src 'self'",
	"img-src 'self'",
	"base-uri 'none'",
	"form-action 'none'",
	"frame-ancestors 'none'",
}, "; ")

// Handler serves the page at /, the files that it loads beside it, and
// POST /demo/token, and answers 404 to everything else. The page expects the chat hub
// at /chat of the same origin.
//
//	mux.Handle("/chat", chat)
//	mux.Handle("/chat/", chat)
//	mux.Handle("/", demo.Handler(secret))
//
// POST /demo/token takes {"user":"ada"} and answers {"token":"…"}: a JSON Web Token
// whose sub is the user, signed with the secret by HS256 and valid for 12 hours. The
// hub's authenticator must accept it: auth.HS256 of the same secret does. A user is 1
// to 64 characters without control characters; what is refused is answered with
// {"error":"…"}.
//
// Whoever reaches this handler gets a token for any user. It must not be served where a
// user means anything.
//
// The secret is copied. The handler may be used concurrently, and starts nothing.
func Handler(secret []byte) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/demo/token", newTokenIssuer(secret))
	for path, a := range assets(page, "page") {
		mux.Handle("GET "+path, a)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		mux.ServeHTTP(w, r)
	})
}
