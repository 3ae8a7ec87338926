package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func (n *node) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", n.readyz)
	if n.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(n.Gatherer, promhttp.HandlerOpts{}))
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// readyz says whether the node should get connections.
func (n *node) readyz(w http.ResponseWriter, r *http.Request) {
	var report strings.Builder
	check := func(name string, err error) {
		if err == nil {
			fmt.Fprintf(&report, "[+] %s: ok\n", name)
		} else {
			fmt.Fprintf(&report, "[-] %s: %v\n", name, err)
		}
	}
	var unready error
	if n.leaving.Load() {
		unready = errors.New("leaving")
	}
	check("serving", unready)
	if n.readiness != nil {
		ready, err := n.readiness.check(r.Context())
		check("backplane", err)
		if !ready {
			unready = err
		}
	}
	if unready != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if _, verbose := r.URL.Query()["verbose"]; verbose || unready != nil {
		fmt.Fprint(w, report.String())
		return
	}
	fmt.Fprintln(w, "ok")
}
