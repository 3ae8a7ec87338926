package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// reported is a backplane that says what a test wants.
type reported struct {
	backplane.Backplane
	err    error
	others int
}

func (r reported) Healthy() error { return r.err }

func (r reported) Others() []backplane.NodeState {
	others := make([]backplane.NodeState, r.others)
	for i := range others {
		others[i].ID = fmt.Sprint(i)
	}
	return others
}

func TestReadiness(t *testing.T) {
	deafError := &backplane.DeafError{Since: time.Now().Add(-time.Minute), Err: errors.New("connection refused")}
	heard := func(ago time.Duration) func(string) (time.Duration, error) {
		return func(string) (time.Duration, error) { return ago, nil }
	}
	deafToo := func(string) (time.Duration, error) { return 0, errors.New("refused") }
	for _, tt := range []struct {
		name   string
		err    error // of the backplane
		others int
		strict bool
		ask    func(id string) (time.Duration, error)
		ready  bool
		reason string // is contained; empty: no error
		asked  int32
	}{
		{name: "hears", others: 3, ask: heard(0), ready: true},
		{name: "hears, strict", others: 3, strict: true, ask: heard(0), ready: true},
		{name: "deaf alone", err: deafError, ask: heard(0), ready: true, reason: "no other node is known to"},
		{name: "deaf, not node to node", err: deafError, others: 3, ready: true, reason: "connection refused"},
		{name: "deaf, strict", err: deafError, others: 3, strict: true, ask: deafToo, reason: "connection refused"},
		{name: "another hears", err: deafError, others: 1, ask: heard(time.Second), reason: "connection refused, while node 0 does", asked: 1},
		{name: "another has heard before", err: deafError, others: 1, ask: heard(time.Hour), ready: true, reason: "no other node", asked: 1},
		{name: "all are deaf", err: deafError, others: 3, ask: deafToo, ready: true, reason: "no other node", asked: 3},
		{name: "many are deaf", err: deafError, others: 100, ask: deafToo, ready: true, reason: "no other node", asked: maxAsked},
		{name: "one of several hears", err: deafError, others: maxAsked, ask: func(id string) (time.Duration, error) {
			if id == "4" {
				return 0, nil
			}
			return deafToo(id)
		}, reason: "while node 4 does", asked: -1},
		{name: "another kind of trouble", err: backplane.ErrClosed, others: 1, ask: heard(0), ready: true, reason: "closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReadiness(reported{err: tt.err, others: tt.others}, nil, tt.strict)
			var asked atomic.Int32
			if tt.ask != nil {
				r.ask = func(_ context.Context, of backplane.NodeState) (time.Duration, error) {
					asked.Add(1)
					return tt.ask(of.ID)
				}
			}
			var several sync.WaitGroup
			for range 20 { // who asks often, or at once, has no more asked
				several.Go(func() {
					ready, err := r.check(t.Context())
					if ready != tt.ready || (err == nil) != (tt.reason == "") || err != nil && !strings.Contains(err.Error(), tt.reason) {
						t.Errorf("got %v, %v, want %v, %q", ready, err, tt.ready, tt.reason)
					}
				})
			}
			several.Wait()
			if got := asked.Load(); tt.asked >= 0 && got != tt.asked {
				t.Errorf("%d nodes were asked, want %d", got, tt.asked)
			}
		})
	}
}
