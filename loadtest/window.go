package main

import (
	"os"
	"time"
)

// reportWindow adds the rates of the window in which is measured.
func (t *trial) reportWindow(r *report) {
	begin, end := t.windowBegin, t.windowEnd
	seconds := end.at.Sub(begin.at).Seconds()
	if begin.at.IsZero() || seconds <= 0 {
		return
	}
	r.Messages.WindowSeconds = seconds
	// A send that fails late is taken back, so there may be fewer at the end.
	r.Messages.SendsPerSecond = max(0, float64(end.sent)-float64(begin.sent)) / seconds
	r.Messages.DeliveriesPerSecond = float64(end.delivered-begin.delivered) / seconds
	if total := end.host.total - begin.host.total; total > 0 {
		percent := func(begin, end uint64) *float64 { return new(100 * float64(end-begin) / float64(total)) }
		r.Machine.BusyPercent = percent(begin.host.busy, end.host.busy)
		r.Machine.StealPercent = percent(begin.host.steal, end.host.steal)
	}
}

// reportProcesses reports the CPU of the window and the memory at its end.
func (t *trial) reportProcesses(r *report) {
	begin, end := t.windowBegin, t.windowEnd
	if r.Messages.WindowSeconds == 0 {
		return
	}
	wall := end.at.Sub(begin.at)
	used := func(begin, end usage) process {
		return process{CPUPercent: 100 * ratio(float64(end.cpu-begin.cpu), float64(wall)), RSS: end.resident}
	}
	if end.own.resident > 0 {
		own := used(begin.own, end.own)
		own.PID = os.Getpid()
		r.LoadGenerator = &own
	}
	if len(t.config.serverPIDs) == 0 {
		return
	}
	s := &servers{}
	var beforeConnects, afterConnects, beforeWindow, afterWindow usage
	for i, pid := range t.config.serverPIDs {
		if end.servers[i].resident == 0 {
			r.Notes = append(r.Notes, noUsage(pid))
			continue
		}
		p := used(begin.servers[i], end.servers[i])
		p.PID = pid
		s.Processes = append(s.Processes, p)
		beforeConnects.add(t.beginning.servers[i])
		afterConnects.add(t.settled.servers[i])
		beforeWindow.add(begin.servers[i])
		afterWindow.add(end.servers[i])
	}
	if len(s.Processes) == 0 {
		return
	}
	cpu := afterWindow.cpu - beforeWindow.cpu
	s.CPUPercent = 100 * ratio(float64(cpu), float64(wall))
	s.CPUPerDelivery = ratio(microseconds(cpu), float64(end.delivered-begin.delivered))
	s.CPUPerSend = ratio(microseconds(cpu), float64(end.sent-begin.sent))
	opened := float64(r.Connects.Opened)
	s.CPUPerConnect = ratio(microseconds(afterConnects.cpu-beforeConnects.cpu), opened)
	s.RSS = afterWindow.resident
	s.RSSPerConnect = max(0, ratio(float64(afterConnects.resident)-float64(beforeConnects.resident), opened))
	r.Servers = s
}

func (u *usage) add(other usage) {
	u.cpu += other.cpu
	u.resident += other.resident
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// ratio is 0 where there is nothing to divide by.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
