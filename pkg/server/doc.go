// Package server runs a node: it listens, serves the hubs and the admin port, and
// leaves in order.
//
// The public listener has what clients need and nothing else. Health, metrics and profiles are
// on the admin listener, which belongs on an address that only operators reach:
//
//	/livez           200 while the process can answer
//	/readyz          200 while the node takes connections; ?verbose says more
//	/metrics         in Prometheus' text format
//	/debug/pprof/    profiles, for go tool pprof
package server
