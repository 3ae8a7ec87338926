package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A pacer waits for moments. It belongs to one goroutine.
//
// The run-time's timers are late by up to a millisecond in a process that is otherwise
// idle, since it waits for them in whole milliseconds. All latencies would contain
// that. A timer of the kernel, waited for like a socket, is exact to some 50 µs.
type pacer struct {
	ctx   context.Context
	fd    int // of timer, whose Fd method would make it block
	timer *os.File
	stop  func() bool // of what ends a wait with ctx
}

// newPacer makes a pacer that is to be closed. Its waits end when ctx does.
func newPacer(ctx context.Context) (*pacer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create timer: %w", os.NewSyscallError("timerfd_create", err))
	}
	p := &pacer{ctx: ctx, fd: fd, timer: os.NewFile(uintptr(fd), "timer")}
	p.stop = context.AfterFunc(ctx, func() { p.timer.SetReadDeadline(time.Unix(1, 0)) })
	return p, nil
}

// wait returns nil at that time, or at once if it is past, and the context's error
// when that ends first.
func (p *pacer) wait(due time.Time) error {
	if left := time.Until(due); left > 0 && p.ctx.Err() == nil {
		at := &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(left))}
		if err := unix.TimerfdSettime(p.fd, 0, at, nil); err != nil {
			return fmt.Errorf("set timer: %w", os.NewSyscallError("timerfd_settime", err))
		}
		var expirations [8]byte
		if _, err := p.timer.Read(expirations[:]); err != nil && p.ctx.Err() == nil {
			return fmt.Errorf("wait for timer: %w", err)
		}
	}
	return p.ctx.Err()
}

func (p *pacer) close() {
	p.stop()
	p.timer.Close()
}
