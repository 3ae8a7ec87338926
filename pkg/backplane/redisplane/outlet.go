package redisplane

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// redialPause is how long sending fails at once after a failure to connect, on average.
const redialPause = 100 * time.Millisecond

// An outlet has the one link at a time over which a goroutine, the sender, sends pipelines. It
// connects when there is something to send.
type outlet struct {
	site     *site
	renewing atomic.Bool // see renew

	mu   sync.Mutex // never held while something is sent
	link *link      // set by the sender alone, which needs no lock to read it; nil while there is none
	end  error      // why no link may last; nil: it may

	// The sender's alone:

	dialError error // of the last attempt to connect
	dialAgain time.Time
}

// renew makes the sender connect anew before it sends the next time.
func (o *outlet) renew() { o.renewing.Store(true) }

// hurry ends what is in flight, and lets nothing more be sent.
func (o *outlet) hurry(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end = reason
	if o.link != nil {
		o.link.cut(reason)
	}
}

// connect returns the link to send on; the sender calls it.
func (o *outlet) connect() (*link, error) {
	if renew := o.renewing.Swap(false); !renew && o.link != nil && !o.link.isCut() {
		return o.link, nil
	}
	o.disconnect()
	if time.Now().Before(o.dialAgain) {
		return nil, o.dialError
	}
	l := newLink(o.site, true)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil {
		l.cut(o.end)
	}
	o.link = l
	return l, nil
}

// disconnect lets go of the link; the sender calls it.
func (o *outlet) disconnect() {
	if o.link == nil {
		return
	}
	o.link.close()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.link = nil
}

// fail has connect fail with err for a moment; the sender calls it.
func (o *outlet) fail(err error) {
	o.dialError = err
	o.dialAgain = time.Now().Add(redialPause/2 + rand.N(redialPause))
}
