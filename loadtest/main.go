// Command loadtest puts a cluster under load and reports what arrived, when, and what
// did not. README.md says how to use it and how it measures.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1 // something was lost, duplicated, out of order, or did not work at all
	exitUsage       = 2
	exitInterrupted = 130 // and nothing failed so far
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments. It returns the exit status.
func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) int {
	c, err := parse(arguments, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	if err := checkProcesses(c.serverPIDs); err != nil {
		fmt.Fprintln(stderr, "loadtest: -server-pid:", err)
		return exitUsage
	}
	output, err := openOutput(c, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "loadtest: -json:", err)
		return exitUsage
	}
	r, err := measure(ctx, c, stderr)
	if err == nil {
		err = output.write(r)
	}
	switch err := errors.Join(err, output.close()); {
	case err != nil:
		fmt.Fprintln(stderr, "loadtest:", err)
		return exitFailed
	case r.failed():
		return exitFailed
	case r.Interrupted:
		return exitInterrupted
	}
	return exitOK
}

// checkProcesses looks whether the processes are there, if that can be seen at all.
func checkProcesses(pids []int) error {
	for _, pid := range pids {
		if _, err := processUsage(pid); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return nil
}

// measure runs the trial that was asked for, and whatever it needs beside it.
func measure(ctx context.Context, c config, stderr io.Writer) (r *report, err error) {
	nodes := c.nodes
	if c.self {
		own, err := startCluster(1, ownHub{})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, own.stop()) }()
		nodes = own.nodes
	}
	t := newTrial(c, fanout, nodes)
	defer t.close()
	if !c.quiet {
		defer watch(t, stderr)()
	}
	t.run(ctx)
	return t.report(), nil
}

// watch shows the trial's progress until the function that it returns is called.
func watch(t *trial, w io.Writer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { newProgress(w).run(ctx, t.status) })
	return func() {
		cancel()
		watching.Wait()
	}
}

// output is where a report goes to.
type output struct {
	text io.Writer
	json io.Writer // nil: nowhere
	file *os.File  // of json; nil if it is none
}

// openOutput opens the output before anything is measured, which would be a pity to
// lose.
func openOutput(c config, stdout, stderr io.Writer) (*output, error) {
	switch c.jsonFile {
	case "":
		return &output{text: stdout}, nil
	case "-":
		return &output{text: stderr, json: stdout}, nil
	}
	f, err := os.Create(c.jsonFile)
	if err != nil {
		return nil, err
	}
	return &output{text: stdout, json: f, file: f}, nil
}

func (o *output) write(r *report) error {
	if o.json != nil {
		e := json.NewEncoder(o.json)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	if err := writeText(o.text, r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (o *output) close() error {
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
