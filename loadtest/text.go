package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// writeText writes the report for people: what was asked for, what came, how fast, at
// what cost, and last what went wrong.
func writeText(w io.Writer, r *report) error {
	var b strings.Builder
	writeHeading(&b, r)
	writeCounts(&b, r)
	writeLatencies(&b, r)
	writeProcesses(&b, r)
	writeNotes(&b, r)
	writeOutcome(&b, r)
	_, err := io.WriteString(w, b.String())
	return err
}

func writeHeading(w io.Writer, r *report) {
	s := r.Settings
	fmt.Fprintf(w, "%s: %s in %s on %s, %s\n", r.Scenario, plural(s.Connections, "connection"),
		plural(s.Groups, "group"), plural(len(s.Nodes), "node"), s.Protocol)
	fmt.Fprintf(w, "%s messages/s of %d bytes from %s, for %gs\n\n",
		strconv.FormatFloat(s.Rate, 'f', -1, 64), s.Payload, plural(s.Senders, "sender"), s.DurationSeconds)
}

func writeCounts(w io.Writer, r *report) {
	c, m := r.Connects, r.Messages
	fmt.Fprintf(w, "connections  opened %s (%.0f/s), failed %s, disconnected %s\n",
		grouped(c.Opened), c.PerSecond, grouped(c.Failed), grouped(c.Disconnected))
	fmt.Fprintf(w, "messages     sent %s (%.1f/s), errors %s, not sent in time %s\n",
		grouped(m.Sent), m.SendsPerSecond, grouped(m.SendErrors), grouped(m.Unsent))
	fmt.Fprintf(w, "deliveries   expected %s, delivered %s (%.0f/s)\n",
		grouped(m.Expected), grouped(m.Delivered), m.DeliveriesPerSecond)
	fmt.Fprintf(w, "             lost %s, duplicated %s, out of order %s, stray %s, damaged %s\n\n",
		grouped(m.Lost), grouped(m.Duplicated), grouped(m.OutOfOrder), grouped(m.Stray), grouped(m.Damaged))
}

func writeLatencies(w io.Writer, r *report) {
	rows := []struct {
		name string
		*latencySummary
	}{
		{"delivery", r.Latency},
		{"  across nodes", r.LatencyCrossNode},
		{"  sent late by", r.SendLag},
		{"connect", r.Connects.Duration},
	}
	if r.Latency == nil && r.Connects.Duration == nil {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "milliseconds\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, row := range rows {
		if l := row.latencySummary; l != nil {
			fmt.Fprintf(t, "%-14s\t%s\t%s\t%s\t%s\t%s\t\n", row.name, milliseconds(l.P50),
				milliseconds(l.P90), milliseconds(l.P99), milliseconds(l.P999), milliseconds(l.Max))
		}
	}
	t.Flush()
	fmt.Fprintln(w)
}

func writeProcesses(w io.Writer, r *report) {
	if s := r.Servers; s != nil {
		fmt.Fprintf(w, "servers         %.1f %% CPU, %.1f µs per delivery, %.1f µs per message, %.0f µs per connect\n",
			s.CPUPercent, s.CPUPerDelivery, s.CPUPerSend, s.CPUPerConnect)
		fmt.Fprintf(w, "                %s", mebibytes(s.RSS))
		if s.RSSPerConnect > 0 {
			fmt.Fprintf(w, ", %s bytes per connection", grouped(int64(s.RSSPerConnect)))
		}
		fmt.Fprintln(w)
		for _, p := range s.Processes {
			fmt.Fprintf(w, "  process %-6d%.1f %% CPU, %s\n", p.PID, p.CPUPercent, mebibytes(p.RSS))
		}
	}
	if p := r.LoadGenerator; p != nil {
		name := "load generator"
		if r.Settings.Self {
			name = "this process"
		}
		fmt.Fprintf(w, "%-16s%.1f %% CPU, %s\n", name, p.CPUPercent, mebibytes(p.RSS))
	}
	m := r.Machine
	fmt.Fprintf(w, "%-16s%s, %s/%s, %s", "machine", plural(m.Processors, "processor"), m.OS, m.Architecture, m.Go)
	if m.BusyPercent != nil && m.StealPercent != nil {
		fmt.Fprintf(w, ", %.0f %% busy, %.1f %% steal", *m.BusyPercent, *m.StealPercent)
	}
	fmt.Fprint(w, "\n\n")
}

func writeNotes(w io.Writer, r *report) {
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note:", n)
	}
	for _, e := range r.Errors {
		fmt.Fprintf(w, "error: %s × %s\n", grouped(e.Count), e.Text)
	}
}

func writeOutcome(w io.Writer, r *report) {
	if r.Error != "" {
		fmt.Fprintln(w, "FAILED:", r.Error)
	}
	for _, f := range r.Failures {
		verdict := "FAILED"
		if f.Allowed {
			verdict = "allowed"
		}
		fmt.Fprintf(w, "%s: %s %s\n", verdict, grouped(f.Count), f.Text)
	}
	switch {
	case r.Error != "" || len(r.Failures) > 0:
	case r.Interrupted:
		fmt.Fprintln(w, "interrupted: nothing was lost, duplicated or out of order so far")
	default:
		fmt.Fprintln(w, "ok: nothing was lost, duplicated or out of order")
	}
}

// grouped writes a number with commas between thousands.
func grouped[N int | int64 | uint64](n N) string {
	digits := fmt.Sprint(n)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

func plural[N int | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return grouped(n) + " " + what + "s"
}

// milliseconds writes microseconds as milliseconds.
func milliseconds(us int64) string { return strconv.FormatFloat(float64(us)/1000, 'f', 2, 64) }

func mebibytes(bytes uint64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
