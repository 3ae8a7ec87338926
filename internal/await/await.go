// Package await lets tests wait for conditions instead of for time.
package await

import (
	"testing"
	"time"
)

// Deadline is how long Until waits. A condition that takes as long on any machine
// will not come true at all.
const Deadline = 20 * time.Second

// Until polls the condition until it returns nil. If that does not happen before the
// deadline, the test fails at once, with what the condition said last.
func Until(t testing.TB, what string, condition func() error) {
	t.Helper()
	end := time.Now().Add(Deadline)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s: %v", Deadline, what, err)
		}
		time.Sleep(pause)
	}
}
