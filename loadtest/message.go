package main

import (
	"strconv"
	"strings"
	"time"
)

// A message is what a load message says of itself, so that a receiver can account
// for it without asking anybody. On the wire it is one text argument:
//
//	load TRIAL SENDER TARGET SEQUENCE DUE xxxxx
//
// in characters that no encoding escapes, filled up with x to the size asked for.
type message struct {
	sender   int           // its index
	target   int           // its index
	sequence uint64        // in the stream from sender to target, from 1
	due      time.Duration // when it was to be sent, since the trial's epoch
}

// A trialID tells the messages and the groups of one trial from those of others at
// the same servers. It has no spaces.
type trialID string

const trialIDBytes = 8

// minimumPayload is enough for any message.
const minimumPayload = len("load ") + trialIDBytes + len(" 2147483647 2147483647 18446744073709551615 9223372036854775807 x")

// appendMessage appends the message's text, of size bytes, which are at least
// minimumPayload.
func appendMessage(dst []byte, id trialID, m message, size int) []byte {
	begin := len(dst)
	dst = append(dst, "load "...)
	dst = append(dst, id...)
	dst = strconv.AppendInt(append(dst, ' '), int64(m.sender), 10)
	dst = strconv.AppendInt(append(dst, ' '), int64(m.target), 10)
	dst = strconv.AppendUint(append(dst, ' '), m.sequence, 10)
	dst = strconv.AppendInt(append(dst, ' '), int64(m.due), 10)
	dst = append(dst, ' ')
	for len(dst) < begin+size {
		dst = append(dst, 'x')
	}
	return dst
}

// isOf reports whether the text is a message of that trial.
func isOf(id trialID, text string) bool {
	rest, ok := strings.CutPrefix(text, "load ")
	return ok && strings.HasPrefix(rest, string(id)+" ")
}

// parseMessage reads a text that isOf the trial.
func parseMessage(id trialID, text string) (m message, ok bool) {
	rest := text[len("load ")+len(id)+1:]
	var numbers [4]uint64
	for i := range numbers {
		field, after, found := strings.Cut(rest, " ")
		if !found {
			return message{}, false
		}
		n, err := strconv.ParseUint(field, 10, 63)
		if err != nil {
			return message{}, false
		}
		numbers[i], rest = n, after
	}
	m = message{int(numbers[0]), int(numbers[1]), numbers[2], time.Duration(numbers[3])}
	return m, m.sequence > 0 && strings.Trim(rest, "x") == ""
}
