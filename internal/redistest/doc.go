// Package redistest starts real Redis servers for tests, alone, watched by sentinels or in a
// cluster, and a proxy that stands in front of one and misbehaves on demand.
package redistest
