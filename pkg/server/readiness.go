package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/peer"
)

const (
	// heardCall is the name of the call by which a node asks another one whether it hears.
	// The answer is how long ago that was published which it heard last, in nanoseconds, as
	// 8 bytes, big-endian. A node that does not hear answers with an error.
	heardCall = "heard"
	// maxAsked is how many other nodes are asked, and askedAtOnce how many at a time.
	maxAsked    = 9
	askedAtOnce = 3
	// askTimeout bounds how long that may take in all. It is less than what probes wait.
	askTimeout = time.Second
	// evidenceKept is for how long what came of it is used again.
	evidenceKept = time.Second
)

// readiness is whether the state of the backplane lets a node be ready. A node that is
// deaf stays ready, since it most likely is every node's trouble, and a cluster without any
// ready node serves nobody; unless another node proves that it is not.
type readiness struct {
	plane  backplane.Backplane
	strict bool // deaf is not ready
	// ask returns how long ago that was published which the other node heard last, or an
	// error if it does not hear, or cannot be asked. Nil: nobody can be.
	ask func(ctx context.Context, of backplane.NodeState) (time.Duration, error)

	asking chan struct{} // of capacity 1: full while others are asked, or the rest is looked at

	// Of who has filled asking:

	since   time.Time // the deafness that witness is about
	asked   time.Time
	witness string // the node that hears; empty: none
}

func newReadiness(plane backplane.Backplane, peers *peer.Peers, strict bool) *readiness {
	r := &readiness{plane: plane, strict: strict, asking: make(chan struct{}, 1)}
	if peers == nil {
		return r
	}
	peers.Handle(heardCall, func(context.Context, string, []byte) ([]byte, error) {
		if err := plane.Healthy(); err != nil {
			return nil, err
		}
		return binary.BigEndian.AppendUint64(nil, uint64(time.Since(plane.Heard()))), nil
	})
	r.ask = func(ctx context.Context, of backplane.NodeState) (time.Duration, error) {
		answer, err := peers.Call(ctx, peer.Node{ID: of.ID, Address: of.Address}, heardCall, nil)
		if err != nil {
			return 0, err
		}
		if len(answer) != 8 {
			return 0, fmt.Errorf("node %s answers %d bytes", of.ID, len(answer))
		}
		return time.Duration(binary.BigEndian.Uint64(answer)), nil
	}
	return r
}

// check returns what is wrong with the backplane, if anything, and whether the node is
// ready nevertheless.
func (r *readiness) check(ctx context.Context) (ready bool, err error) {
	err = r.plane.Healthy()
	switch {
	case err == nil:
		return true, nil
	case r.strict:
		return false, err
	}
	deaf, ok := errors.AsType[*backplane.DeafError](err)
	if !ok || r.ask == nil {
		return true, err
	}
	if witness := r.evidence(ctx, deaf.Since); witness != "" {
		return false, fmt.Errorf("%w, while node %s does", err, witness)
	}
	return true, fmt.Errorf("%w, and no other node is known to", err)
}

// evidence returns a node that has heard something published after since, if there is one
// to be found. However many ask, others are asked once in evidenceKept.
func (r *readiness) evidence(ctx context.Context, since time.Time) (witness string) {
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return ""
	}
	if r.since.Equal(since) && time.Since(r.asked) < evidenceKept {
		return r.witness
	}
	r.witness = r.find(since)
	r.since, r.asked = since, time.Now()
	return r.witness
}

// find asks other nodes until one says that it has heard.
func (r *readiness) find(since time.Time) (witness string) {
	others := r.plane.Others()
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	next := make(chan backplane.NodeState, maxAsked)
	for _, n := range others[:min(len(others), maxAsked)] {
		next <- n
	}
	close(next)

	// Not the context of who asks: what is found is for those who ask after him, too.
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	found := make(chan string, askedAtOnce)
	var asking sync.WaitGroup
	for range min(len(next), askedAtOnce) {
		asking.Go(func() {
			for n := range next {
				begin := time.Now()
				age, err := r.ask(ctx, n)
				// What it heard may be from before this node's trouble, which may be its own
				// too, as it will find out. No clocks of two machines are compared.
				if err == nil && begin.Add(-age).After(since) {
					found <- n.ID
					cancel()
					return
				}
			}
		})
	}
	asking.Wait()
	select {
	case witness = <-found:
	default:
	}
	return witness
}
