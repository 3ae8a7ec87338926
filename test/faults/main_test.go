// Package faults holds tests of the Redis backplane while things go wrong with Redis and
// on the way there: what its contract promises is held against a record of all that was
// sent, told and heard meanwhile.
package faults

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soak reports whether all rounds are wanted.
func soak() bool { return os.Getenv("HELIOGRAPH_SOAK") == "1" }
