// Package redistest starts real Redis servers for tests, and a proxy that stands in
// front of one and misbehaves on demand.
package redistest
