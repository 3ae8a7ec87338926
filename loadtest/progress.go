package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	terminalInterval = 250 * time.Millisecond
	plainInterval    = 2 * time.Second
)

// progress tells how a trial goes while it runs: in one line that is updated on a
// terminal, and line by line elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
}

func newProgress(w io.Writer) *progress { return &progress{w, isTerminal(w)} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// run writes the status until ctx ends.
func (p *progress) run(ctx context.Context, status func() string) {
	interval := plainInterval
	if p.terminal {
		interval = terminalInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			p.end()
			return
		case <-ticker.C:
			p.write(status())
		}
	}
}

// What a terminal understands. A line that wrapped could not be erased.
const (
	eraseLine = "\r\x1b[K"
	noWrap    = "\x1b[?7l"
	wrap      = "\x1b[?7h"
)

func (p *progress) write(status string) {
	if p.terminal {
		fmt.Fprint(p.w, eraseLine, noWrap, status, wrap)
		return
	}
	fmt.Fprintln(p.w, status)
}

// end leaves a terminal as if nothing had been written.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, eraseLine)
	}
}

// status is a line on how far the trial is.
func (t *trial) status() string {
	t.mu.Lock()
	now, l := t.phase, t.load
	t.mu.Unlock()
	line := fmt.Sprintf("%-10s %4.1fs", now.name, time.Since(now.began).Seconds())
	if now.takes > 0 {
		line += fmt.Sprintf(" of %gs", now.takes.Seconds())
	}
	c := t.fleet.counts()
	line += fmt.Sprintf("  connections %s", grouped(c.opened))
	if l == nil {
		return line
	}
	line += fmt.Sprintf(" of %s", grouped(len(l.clients)))
	if c.failed+c.disconnected > 0 {
		line += fmt.Sprintf(" (%s failed, %s disconnected)", grouped(c.failed), grouped(c.disconnected))
	}
	sent, got := l.sent(), l.recorder.tally()
	if sent.Sent+sent.Failed == 0 {
		return line
	}
	line += fmt.Sprintf("  sent %s  delivered %s of %s", grouped(sent.Sent), grouped(got.delivered), grouped(sent.Expected))
	if sent.Failed+got.duplicated+got.outOfOrder > 0 {
		line += fmt.Sprintf(" (%s send errors, %s duplicated, %s out of order)",
			grouped(sent.Failed), grouped(got.duplicated), grouped(got.outOfOrder))
	}
	return line
}
