package deploy

import (
	"os/exec"
	"regexp"
	"sync"
	"testing"
)

// settings are the program's, as its --help has them.
type settings struct {
	defaults map[string]string // by flag, without dashes; empty if there is none
	negated  []string          // flags that turn another off
	env      map[string]string // the flag, by environment variable
}

var (
	flagLine = regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--(\[no-\])?([a-z0-9-]+)(?:=("[^"]*"|\S+))?`)
	envName  = regexp.MustCompile(`\(\$(HELIOGRAPH_[A-Z0-9_]+)`)
	anyEnv   = regexp.MustCompile(`HELIOGRAPH_[A-Z0-9_]+`)
)

var readSettings = sync.OnceValues(func() (*settings, error) {
	i, err := buildOnce()
	if err != nil {
		return nil, err
	}
	help, err := exec.Command(i.node(), "--help").Output()
	if err != nil {
		return nil, err
	}
	s := &settings{defaults: make(map[string]string), env: make(map[string]string)}
	flags := flagLine.FindAllSubmatchIndex(help, -1)
	for n, at := range flags {
		end := len(help)
		if n+1 < len(flags) {
			end = flags[n+1][0]
		}
		flag := string(help[at[4]:at[5]])
		s.defaults[flag] = ""
		if at[6] >= 0 {
			s.defaults[flag] = unquote(string(help[at[6]:at[7]]))
		}
		if at[2] >= 0 {
			s.negated = append(s.negated, "no-"+flag)
		}
		if name := envName.FindSubmatch(help[at[0]:end]); name != nil {
			s.env[string(name[1])] = flag
		}
	}
	return s, nil
})

func program(t *testing.T) *settings {
	t.Helper()
	s, err := readSettings()
	if err != nil {
		t.Fatalf("ask the program for its settings: %v", err)
	}
	return s
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// defaultOf returns the default of a flag that there has to be.
func defaultOf(t *testing.T, flag string) string {
	t.Helper()
	d, ok := program(t).defaults[flag]
	if !ok {
		t.Fatalf("the program has no flag --%s", flag)
	}
	return d
}

func TestSettingsAreRead(t *testing.T) {
	s := program(t)
	for _, flag := range []string{"listen", "redis", "drain-delay"} {
		if _, ok := s.defaults[flag]; !ok {
			t.Errorf("--%s was not found in --help: %v", flag, s.defaults)
		}
	}
	if s.defaults["listen"] != ":8080" {
		t.Errorf("the default of --listen was read as %q", s.defaults["listen"])
	}
	if len(s.env) < len(s.defaults)-1 { // --help has none
		t.Errorf("%d flags but %d environment variables: %v", len(s.defaults), len(s.env), s.env)
	}
}
