package main

import (
	"fmt"
	"time"
)

const (
	// tooMuchSteal is the percentage of withheld CPU above which latencies say more of
	// the host than of the server.
	tooMuchSteal = 5
	// tooBusy is the percentage of used CPU above which the machine holds up the load.
	tooBusy = 90
	// tooMuchLag is how late the load generator may be for one message in a hundred.
	tooMuchLag = 10 * time.Millisecond
)

// notes says what a reader of the report has to know to read it right.
func notes(r *report) []string {
	var all []string
	note := func(format string, arguments ...any) { all = append(all, fmt.Sprintf(format, arguments...)) }
	if r.Interrupted {
		note("Interrupted: the figures are of what was done by then.")
	}
	if r.Settings.Self {
		note("The node ran in the load generator's process: CPU and memory are of both, and cannot be told apart.")
	}
	if m := r.Messages; m.LostEnded > 0 {
		note("Of the lost deliveries, %s had been for connections that ended.", grouped(m.LostEnded))
	}
	if n := r.Messages.Unconfirmed; n > 0 {
		note("The server has not completed the invocations of %s.", plural(n, "sent message"))
	}
	if n := r.Messages.Ignored; n > 0 {
		note("Received beside: %s, such as announcements of who joined a group.", plural(n, "other message"))
	}
	if s := r.Machine.StealPercent; s != nil && *s > tooMuchSteal {
		note("The hypervisor withheld %.1f %% of the CPU: the latencies say more of the host than of the server.", *s)
	}
	if b := r.Machine.BusyPercent; b != nil && *b > tooBusy {
		note("The processors of this machine were busy for %.0f %% of the time: the latencies contain waiting for them.", *b)
	}
	if l := r.SendLag; l != nil && l.P99 > tooMuchLag.Microseconds() {
		note("1 %% of the messages were sent more than %s ms after they were due, which their latencies contain: "+
			"the load generator, or its way to the server, does not keep up.", milliseconds(l.P99))
	}
	return all
}

// noUsage is the note on a process that could not be looked at.
func noUsage(pid int) string {
	return fmt.Sprintf("CPU and memory of process %d are not available.", pid)
}
