package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestNonsenseEndsWithStatus2(t *testing.T) {
	good := map[string]string{"LISTEN": "127.0.0.1:0", "JWT_SECRET": strings.Repeat("s", 32)}
	for name, test := range map[string]struct {
		set  map[string]string
		says []string
	}{
		"no secret":          {map[string]string{"JWT_SECRET": ""}, []string{"secret", "needs 32"}},
		"short secret":       {map[string]string{"JWT_SECRET": "short"}, []string{"secret", "needs 32"}},
		"short cluster key":  {map[string]string{"CLUSTER_KEY": "short"}, []string{"cluster key", "needs 32"}},
		"no URL":             {map[string]string{"REDIS": "localhost:6379"}, []string{"none of redis, rediss"}},
		"no duration":        {map[string]string{"CLIENT_TIMEOUT": "30"}, []string{"CLIENT_TIMEOUT", `"30"`, "duration"}},
		"negative duration":  {map[string]string{"KEEP_ALIVE": "-1s"}, []string{"KEEP_ALIVE", `"-1s"`}},
		"duration of 0":      {map[string]string{"HANDSHAKE_TIMEOUT": "0s"}, []string{"HANDSHAKE_TIMEOUT"}},
		"too short for hubs": {map[string]string{"DISCONNECT_TIMEOUT": "1ns"}, []string{"disconnect time-out"}},
		"negative delay":     {map[string]string{"DRAIN_DELAY": "-1s"}, []string{"DRAIN_DELAY"}},
		"no number":          {map[string]string{"MAX_MESSAGE": "32k"}, []string{"MAX_MESSAGE", `"32k"`}},
		"negative number":    {map[string]string{"MAX_MESSAGE": "-1"}, []string{"MAX_MESSAGE"}},
		"no flag":            {map[string]string{"AUTH_EXPIRY": "yes"}, []string{"AUTH_EXPIRY", `"yes"`}},
		"several":            {map[string]string{"AUTH_EXPIRY": "yes", "MAX_MESSAGE": "x"}, []string{"AUTH_EXPIRY", "MAX_MESSAGE"}},
	} {
		t.Run(name, func(t *testing.T) {
			getenv := func(name string) string {
				if v, ok := test.set[name]; ok {
					return v
				}
				return good[name]
			}
			var stdout, stderr bytes.Buffer
			if status := run(getenv, &stdout, &stderr); status != 2 {
				t.Errorf("status %d, want 2", status)
			}
			for _, want := range test.says {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr is %q, want %q in it", stderr.String(), want)
				}
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout is %q", stdout.String())
			}
		})
	}
}

func TestUnusableAddressEndsWithStatus1(t *testing.T) {
	for _, name := range []string{"LISTEN", "INTERNAL_LISTEN"} {
		t.Run(name, func(t *testing.T) {
			environment := map[string]string{"LISTEN": "127.0.0.1:0", "JWT_SECRET": strings.Repeat("s", 32)}
			environment[name] = "127.0.0.1:-1"
			var stdout, stderr bytes.Buffer
			if status := run(func(name string) string { return environment[name] }, &stdout, &stderr); status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			if !strings.Contains(stderr.String(), "listen") || stdout.Len() > 0 {
				t.Errorf("stderr is %q, stdout %q", stderr.String(), stdout.String())
			}
		})
	}
}
