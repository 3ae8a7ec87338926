package main

import "time"

// usage is what a process has used since it began.
type usage struct {
	cpu      time.Duration // in user and in system mode
	resident uint64        // bytes of memory at the moment
}

// hostTimes is what the processors of this machine have spent since it began, in
// clock ticks.
type hostTimes struct {
	total uint64
	busy  uint64 // in use
	steal uint64 // withheld by the hypervisor
}
