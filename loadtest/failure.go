package main

import (
	"fmt"
	"slices"
	"strings"
)

// A failureKind names what may go wrong with a load.
type failureKind string

const (
	failedConnects  failureKind = "connects"
	failedSends     failureKind = "sends"
	disconnected    failureKind = "disconnects"
	lostMessages    failureKind = "lost"
	duplicates      failureKind = "duplicated"
	disorder        failureKind = "out-of-order"
	damagedMessages failureKind = "damaged"
)

// allowable are the kinds that a user may allow.
var allowable = []failureKind{failedConnects, failedSends, disconnected, lostMessages, duplicates, disorder, damagedMessages}

// A failure is something that did not go as it should.
type failure struct {
	Kind    failureKind `json:"kind"`
	Count   uint64      `json:"count"`
	Text    string      `json:"text"`
	Allowed bool        `json:"allowed"` // does not matter to the exit status
}

// failures says what went wrong, by the rest of the report.
func failures(r *report, c *config) []failure {
	var all []failure
	add := func(kind failureKind, count uint64, text string) {
		if count > 0 {
			all = append(all, failure{kind, count, text, c.allows(kind)})
		}
	}
	add(failedConnects, uint64(r.Connects.Failed), "connections could not be opened")
	add(disconnected, uint64(r.Connects.Disconnected), "connections ended by themselves")
	add(failedSends, r.Messages.SendErrors, "messages could not be sent")
	add(failedSends, r.Messages.Unsent, "messages were due but not sent in time")
	add(lostMessages, r.Messages.Lost, "deliveries were lost")
	add(duplicates, r.Messages.Duplicated, "deliveries were duplicates")
	add(disorder, r.Messages.OutOfOrder, "deliveries were out of order")
	add(damagedMessages, r.Messages.Damaged, "deliveries were damaged")
	add(damagedMessages, r.Messages.Stray, "deliveries were for another group")
	return all
}

// parseFailureKinds reads a list of kinds.
func parseFailureKinds(s string) ([]failureKind, error) {
	if s == "all" {
		return allowable, nil
	}
	var kinds []failureKind
	for name := range strings.SplitSeq(s, ",") {
		if !slices.Contains(allowable, failureKind(name)) {
			return nil, fmt.Errorf("there is no %q", name)
		}
		kinds = append(kinds, failureKind(name))
	}
	return kinds, nil
}

func allFailureKinds() string {
	names := make([]string, len(allowable))
	for i, k := range allowable {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}
