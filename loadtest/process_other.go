//go:build !linux

package main

import "errors"

// processUsage is not available on this system.
func processUsage(int) (usage, error) { return usage{}, errors.ErrUnsupported }

// readHostTimes is not available on this system.
func readHostTimes() (hostTimes, error) { return hostTimes{}, errors.ErrUnsupported }
