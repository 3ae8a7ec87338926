package transport

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// A response is what a request that is being served is answered with: each write has a
// deadline, and other goroutines may cut it. The request's handler must call finish
// before it returns, since the network connection belongs to the next request then.
type response struct {
	http.ResponseWriter
	controller *http.ResponseController
	timeout    time.Duration

	mu       sync.Mutex // never held across a write
	cut      bool
	finished bool
}

var errCut = errors.New("response was cut")

// newResponse takes the deadline off that the server may have for answers in general,
// since this one may take long.
func newResponse(w http.ResponseWriter, timeout time.Duration) *response {
	r := &response{ResponseWriter: w, controller: http.NewResponseController(w), timeout: timeout}
	// Not every writer can set deadlines, those of tests and of some middleware cannot:
	// the server's own bounds are then all there is.
	r.controller.SetWriteDeadline(time.Time{})
	return r
}

// send calls write, which may take as long as the time-out, and sees to it that what it
// wrote goes out. One call may run at a time.
func (r *response) send(write func(http.ResponseWriter) error) error {
	if err := r.within(r.timeout); err != nil {
		return err
	}
	err := write(r.ResponseWriter)
	if err == nil {
		err = r.controller.Flush()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w after %v", ErrSendTimeout, r.timeout)
	}
	return errors.Join(err, r.within(0))
}

// within sets the deadline for writing; 0 is none.
func (r *response) within(d time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut || r.finished {
		return errCut
	}
	var deadline time.Time
	if d > 0 {
		deadline = time.Now().Add(d)
	}
	r.controller.SetWriteDeadline(deadline)
	return nil
}

// abort makes a send that is running, and all later ones, fail.
func (r *response) abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.finished && !r.cut {
		r.controller.SetWriteDeadline(time.Unix(1, 0))
	}
	r.cut = true
}

// finish ends what other goroutines may do. No send may be running.
func (r *response) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finished = true
}
