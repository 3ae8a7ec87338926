// Package redistest starts real Redis servers for tests, alone or watched by sentinels,
// and a proxy that stands in front of one and misbehaves on demand.
package redistest
