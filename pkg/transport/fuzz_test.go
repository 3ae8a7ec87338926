package transport

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whatever comes is answered, with a status that there is a reason for, and nobody but
// who has a token gets further than that.
func FuzzRequest(f *testing.F) {
	for _, method := range []string{"GET", "POST", "DELETE", "PUT", "get", ""} {
		for _, query := range []string{"", "id=", "id=x", "ID=TOKEN", "id=TOKEN&x=%", "id=0.TOKEN", "negotiateVersion=1&useStatefulReconnect=true", "negotiateVersion=-9223372036854775809"} {
			f.Add(method, "/hub", query, "text/event-stream", "body")
			f.Add(method, "/hub/refresh", query, "", "")
		}
	}
	f.Add("POST", "/negotiate/", "negotiateVersion=99", "*/*", "")
	f.Fuzz(func(t *testing.T, method, path, query, accept, body string) {
		if strings.ContainsAny(method, " \t\r\n") || !strings.HasPrefix(path, "/") {
			return
		}
		accepted := 0
		m := NewManager(Config{Logger: slog.New(slog.DiscardHandler), Accept: func(c *Connection, _ *http.Request) Session {
			accepted++
			return &diary{c: c}
		}})
		e := m.Endpoint(LongPollingTimeout(time.Millisecond), AllowStatefulReconnects(), EnableAuthenticationRefresh())
		token := strings.TrimPrefix(m.fresh(), "id=")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		r := (&http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: strings.ReplaceAll(query, "TOKEN", token)},
			Header: http.Header{"Accept": {accept}}, Body: http.NoBody, Host: "host",
		}).WithContext(ctx)
		if body != "" {
			r.Body = httptest.NewRequest("POST", "/", strings.NewReader(body)).Body
		}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if !slices.Contains([]int{200, 202, 204, 400, 401, 404, 405}, w.Code) {
			t.Errorf("%s %s?%s: answered %d", method, path, query, w.Code)
		}
		if accepted > 0 && !strings.Contains(query, "TOKEN") {
			t.Errorf("%s %s?%s: a connection without a token", method, path, query)
		}
		m.Refuse()
		m.Abort()
		if err := m.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
