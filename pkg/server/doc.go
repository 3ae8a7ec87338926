// Package server runs a node: it listens, serves the hubs, other nodes and the admin
// port, and leaves in order.
//
// The public listener has what clients need and nothing else, by plain HTTP or with TLS
// and HTTP/2. The node-to-node listener takes what other nodes forward, since any node
// may get any request, and refuses everybody who has no cluster key. Health, metrics and
// profiles are on the admin listener, which belongs on an address that only operators
// reach:
//
//	/livez           200 while the process can answer
//	/readyz          200 while the node takes connections, and is not deaf to a cluster
//	                 in which another node hears; ?verbose says more
//	/metrics         in Prometheus' text format
//	/debug/pprof/    profiles, for go tool pprof
//
// # Slow clients
//
// Handlers need no time-outs for their clients. The head of a request has to come within
// 10 s and 128 KiB. A write to a client may take 30 s; a body, 30 s and then another
// second for each 240 bytes, not counting the time in which the handler reads nothing.
// What is late fails with [os.ErrDeadlineExceeded]. Handlers that set deadlines by
// [http.ResponseController] keep those. How long a request lasts in all is not bounded.
package server
