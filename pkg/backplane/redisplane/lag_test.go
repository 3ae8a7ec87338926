package redisplane

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lag
		lags := func(what string, want time.Duration) {
			t.Helper()
			if got := l.now(); got != want {
				t.Errorf("%s: lag is %v, want %v", what, got, want)
			}
		}
		pass := func(seconds int) { time.Sleep(time.Duration(seconds) * time.Second) } // no real time
		lags("before any probe", 0)
		if !l.proven().IsZero() {
			t.Error("something was heard")
		}
		first := time.Now()
		l.sent(first)
		pass(2)
		lags("not heard yet", 2*time.Second)
		l.sent(time.Now())
		pass(3)
		if took := l.heard(first); took != 5*time.Second || !l.proven().Equal(first) {
			t.Errorf("took %v, heard what was sent at %v", took, l.proven())
		}
		lags("the second is not heard: it is not better than the first", 5*time.Second)
		pass(4)
		lags("the second is older", 7*time.Second)
		for range 2 * maxUnheard { // a node that is deaf for long
			pass(1)
			l.sent(time.Now())
		}
		lags("the second is the oldest", time.Duration(7+2*maxUnheard)*time.Second)
		last := time.Now()
		pass(1)
		l.heard(last)
		lags("all are heard, or lost", time.Second)
		pass(9)
		lags("nothing is under way", time.Second)
	})
}
