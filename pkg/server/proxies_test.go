package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestProxiesAreBelievedIfTrusted(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tt := range []struct {
		name, from string
		told       []string // values of X-Forwarded-For
		client     string   // "": as it is
	}{
		{"a client", "192.0.2.1:1000", nil, ""},
		{"a client that claims to be another", "192.0.2.1:1000", []string{"198.51.100.1"}, ""},
		{"a proxy", "10.0.0.1:1000", []string{"192.0.2.1"}, "192.0.2.1:0"},
		{"a proxy that tells the port", "10.0.0.1:1000", []string{"192.0.2.1:1234"}, "192.0.2.1:1234"},
		{"a proxy over IPv6", "[fd00::1]:1000", []string{"2001:db8::1"}, "[2001:db8::1]:0"},
		{"a proxy that writes brackets", "[fd00::1]:1000", []string{"[2001:db8::1]:1234"}, "[2001:db8::1]:1234"},
		{"a proxy that writes brackets and no port", "[fd00::1]:1000", []string{"[2001:db8::1]"}, "[2001:db8::1]:0"},
		{"a proxy at a socket of both kinds", "[::ffff:10.0.0.1]:1000", []string{"192.0.2.1"}, "192.0.2.1:0"},
		{"a client behind a proxy that claims to be another", "10.0.0.1:1000", []string{"198.51.100.1, 192.0.2.1"}, "192.0.2.1:0"},
		{"the claim in a header of its own", "10.0.0.1:1000", []string{"198.51.100.1", "192.0.2.1"}, "192.0.2.1:0"},
		{"two proxies", "10.0.0.1:1000", []string{"198.51.100.1, 192.0.2.1, 10.0.0.2"}, "192.0.2.1:0"},
		{"a client in a trusted network", "10.0.0.1:1000", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3:0"},
		{"a proxy that tells nothing", "10.0.0.1:1000", nil, "10.0.0.1:1000"},
		{"a proxy that hides its client", "10.0.0.1:1000", []string{"unknown"}, "10.0.0.1:1000"},
		{"what is behind a hidden hop", "10.0.0.1:1000", []string{"192.0.2.1, unknown, 10.0.0.2"}, "10.0.0.2:0"},
		{"a port that is none", "10.0.0.1:1000", []string{"192.0.2.1:port"}, "10.0.0.1:1000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.from
			for _, value := range tt.told {
				r.Header.Add("X-Forwarded-For", value)
			}
			for _, name := range []string{"X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded"} {
				r.Header.Set(name, "told")
			}
			r.Header.Set("X-Requested-With", "XMLHttpRequest")
			var got *http.Request
			fromProxies(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r })).ServeHTTP(nil, r)
			want := tt.client
			if want == "" {
				want = tt.from
			}
			if got.RemoteAddr != want {
				t.Errorf("the client is %s, want %s", got.RemoteAddr, want)
			}
			for _, name := range []string{"X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded"} {
				if kept := got.Header.Get(name) != ""; kept != (tt.client != "") {
					t.Errorf("%s is %q", name, got.Header.Get(name))
				}
			}
			if tt.client == "" && got.Header.Get("X-Forwarded-For") != "" {
				t.Error("whoever asks for X-Forwarded-For believes it")
			}
			if got.Header.Get("X-Requested-With") == "" {
				t.Error("another header is gone")
			}
		})
	}
}

func FuzzClientAddress(f *testing.F) {
	f.Add("10.0.0.1:1000", "198.51.100.1, 192.0.2.1:5")
	f.Add("[fd00::1%eth0]:1", "[2001:db8::1]:70000,,")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	f.Fuzz(func(t *testing.T, from, told string) {
		r := &http.Request{RemoteAddr: from, Header: http.Header{"X-Forwarded-For": {told}}}
		client := clientAddress(trusted, r)
		if client == "" {
			return
		}
		if _, err := netip.ParseAddrPort(client); err != nil {
			t.Errorf("%q, %q: the client is %q", from, told, client)
		}
	})
}
