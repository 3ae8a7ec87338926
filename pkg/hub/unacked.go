package hub

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ackWait is how long a client that may be sent nothing more before it acknowledges
// something may take for that.
const ackWait = 5 * time.Second

// unacked keeps what a connection with stateful reconnect has been sent until the
// client acknowledges it, so that it can be sent again over another carrier. Only
// messages that are numbered are kept: those of types 1 to 5. Their numbers, from 1 on,
// are not on the wire; both sides count.
//
// What the client was told to expect from the present carrier comes without a hole, so a
// frame that is acknowledged is kept until this carrier has been given it as well.
// Always released ≤ sent ≤ last, and released ≤ acked ≤ last.
type unacked struct {
	max    int                // bytes above which nothing new is sent
	pauses prometheus.Counter // how often that was so

	frames   [][]byte  // numbers released+1 and on; shared with other connections: read-only
	bytes    int       // in frames
	released int64     // highest number that is kept no longer
	sent     int64     // highest number that the present carrier has been given
	acked    int64     // highest number that the client has acknowledged
	paused   time.Time // since when nothing new may be sent and nothing was acknowledged; zero: it may
}

// last is the highest number given so far.
func (u *unacked) last() int64 { return u.released + int64(len(u.frames)) }

// full reports whether the client has to acknowledge something before it is sent more.
func (u *unacked) full() bool { return u.bytes > u.max }

// keep numbers a frame that the present carrier is given.
func (u *unacked) keep(frame []byte) {
	u.frames = append(u.frames, frame)
	u.bytes += len(frame)
	u.sent++
}

// againBytes is how much of what is sent again one message of the transport may join:
// little, since it arrives as a whole or not at all, and the next carrier may break as
// soon as the last one did.
const againBytes = 512

// again returns what the present carrier is to be given next of what earlier ones were.
func (u *unacked) again() [][]byte {
	rest := u.frames[u.sent-u.released:]
	n, _ := batch(rest, againBytes)
	u.sent += int64(n)
	frames := append([][]byte(nil), rest[:n]...) // release may clear them meanwhile
	u.release()
	return frames
}

// ack takes the client's word that it has processed all up to n, and reports whether
// that was news.
func (u *unacked) ack(n int64, now time.Time) bool {
	n = min(n, u.last()) // what it cannot know it need not be believed
	if n <= u.acked {
		return false
	}
	u.acked = n
	u.release()
	if !u.paused.IsZero() {
		u.paused = now
	}
	return true
}

// resume begins with another carrier, and returns the number of the first message that
// it is to be given.
func (u *unacked) resume() int64 {
	u.sent = u.acked
	u.release()
	u.paused = time.Time{}
	return u.released + 1
}

func (u *unacked) release() {
	n := int(min(u.acked, u.sent) - u.released)
	for i, f := range u.frames[:n] {
		u.bytes -= len(f)
		u.frames[i] = nil
	}
	u.released += int64(n)
	if u.frames = u.frames[n:]; len(u.frames) == 0 {
		u.frames = nil
	}
}

// pause notes that the client has to acknowledge something before it is sent more.
func (u *unacked) pause(now time.Time) {
	if u.paused.IsZero() {
		u.paused = now
		u.pauses.Inc()
	}
}

// drop forgets what is kept, but not how much it was.
func (u *unacked) drop() {
	u.released = u.last()
	u.sent, u.acked = u.released, u.released
	u.frames, u.bytes = nil, 0
}
