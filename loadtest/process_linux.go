package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc, on all architectures that Go knows.
const clockTick = 10 * time.Millisecond

// processUsage reads the usage of a process.
func processUsage(pid int) (usage, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("read usage of process: %w", err)
	}
	u, err := parseStat(data)
	if err != nil {
		return usage{}, fmt.Errorf("read usage of process %d: %w", pid, err)
	}
	return u, nil
}

// parseStat reads /proc/PID/stat, see proc_pid_stat(5).
func parseStat(data []byte) (usage, error) {
	// The name may hold anything, spaces and parentheses too.
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	const state, utime, stime, rss = 3, 14, 15, 24 // counted from 1, as in the manual
	if end < 0 || len(fields) <= rss-state {
		return usage{}, fmt.Errorf("unexpected form %q", data)
	}
	var numbers [3]uint64
	for i, field := range []int{utime, stime, rss} {
		n, err := strconv.ParseUint(fields[field-state], 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("field %d: %w", field, err)
		}
		numbers[i] = n
	}
	return usage{
		cpu:      time.Duration(numbers[0]+numbers[1]) * clockTick,
		resident: numbers[2] * uint64(os.Getpagesize()),
	}, nil
}

// readHostTimes reads the times of this machine.
func readHostTimes() (hostTimes, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return hostTimes{}, fmt.Errorf("read times of host: %w", err)
	}
	return parseHostStat(data)
}

// parseHostStat reads the first line of /proc/stat, see proc_stat(5).
func parseHostStat(data []byte) (hostTimes, error) {
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	const idle, iowait, steal = 4, 5, 8
	if len(fields) <= steal || fields[0] != "cpu" {
		return hostTimes{}, fmt.Errorf("unexpected form %q", line)
	}
	var t hostTimes
	for i := 1; i <= steal; i++ { // what follows is part of the first two
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return hostTimes{}, fmt.Errorf("read times of host: %w", err)
		}
		t.total += n
		switch i {
		case idle, iowait:
		case steal:
			t.steal = n
		default:
			t.busy += n
		}
	}
	return t, nil
}
