// Package redistest starts real Redis or Valkey servers for tests, alone, watched by sentinels
// or in a cluster, and a proxy that stands in front of one and misbehaves on demand.
package redistest
