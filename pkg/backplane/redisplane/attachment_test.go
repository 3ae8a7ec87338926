package redisplane

import (
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
)

func TestPrefixOf(t *testing.T) {
	for channel, want := range map[string]string{
		"":                "",
		"all":             "",
		"user:ada":        "",
		"user:a/b":        "",
		"group:chat/x":    "",
		"group:/":         "",
		"/":               "",
		"/all":            "",
		"a b/all":         "",
		"ä/all":           "",
		"chat":            "",
		"chat/":           "chat/",
		"chat/all":        "chat/",
		"chat/user:ada":   "chat/",
		"chat/group:a/b":  "chat/",
		"Chat_1-b/user:x": "Chat_1-b/",
	} {
		if got := prefixOf(channel); got != want {
			t.Errorf("prefix of %q is %q, want %q", channel, got, want)
		}
	}
}

// Whatever the names are, a channel is found under the prefix that it was given.
func FuzzPrefixOf(f *testing.F) {
	f.Add("chat/", "a/b")
	f.Add("", "chat/x")
	f.Fuzz(func(t *testing.T, prefix, name string) {
		if backplane.CheckPrefix(prefix) != nil {
			t.Skip()
		}
		for _, ch := range []backplane.Channel{backplane.All, backplane.User(name), backplane.Group(name), backplane.Connection(name), backplane.Node(name)} {
			if got := prefixOf(prefix + string(ch)); got != prefix {
				t.Errorf("prefix of %q + %q is %q", prefix, ch, got)
			}
		}
	})
}
