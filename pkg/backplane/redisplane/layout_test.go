package redisplane

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// What is in a layout is a contract between nodes of different versions, and with others.
func TestLayout(t *testing.T) {
	if l := sharded(1); !slices.Equal(l.tags, []string{clusterKeys}) || !l.isSharded() {
		t.Errorf("one partition has the tags %q", l.tags)
	}
	if classic.isSharded() || classic.partition("", "user:ada") != 0 {
		t.Error("classic channels have partitions")
	}
	l := sharded(16)
	for channel, want := range map[string]string{
		"user:ada":         "{heliograph13}",
		"chat/user:ada":    "{heliograph23}",
		"group:room":       "{heliograph23}",
		"all":              "{heliograph}",
		"chat/all":         "{heliograph}",
		"node:n1":          "{heliograph}",
		"chat/node:n1":     "{heliograph}",
		"user:{x}\xff\x00": "{heliograph20}",
	} {
		prefix := prefixOf(channel)
		if got := l.tags[l.partition(prefix, backplane.Channel(channel[len(prefix):]))]; got != want {
			t.Errorf("%q has the tag %s, want %s", channel, got, want)
		}
	}
}

// Partitions are spread over the slots, and all channels over the partitions.
func TestLayoutSpreads(t *testing.T) {
	if slotOf(firstWord) != clusterSlot {
		t.Errorf("the first word is in slot %d", slotOf(firstWord))
	}
	for _, n := range []int{1, 2, 3, 16, 100, maxPartitions} {
		l := sharded(n)
		slots := l.slots()
		for i, slot := range slots {
			if part := (slot - clusterSlot + clusterSlots) % clusterSlots * n / clusterSlots; part != i {
				t.Errorf("of %d partitions, number %d is in part %d", n, i, part)
			}
		}
		counts := make([]int, n)
		for i := range 100 * n {
			counts[l.partition("", backplane.User(fmt.Sprint(i)))]++
		}
		if least := slices.Min(counts); least < 50 {
			t.Errorf("of %d partitions, one has %d channels", n, least)
		}
	}
}

func TestSplit(t *testing.T) {
	l := sharded(4)
	var channels []backplane.Channel
	for i := range 50 {
		channels = append(channels, backplane.Group(fmt.Sprint(i)))
	}
	if _, ok := l.common("", channels); ok {
		t.Error("50 groups are in one partition")
	}
	got := make(map[backplane.Channel]int)
	for _, p := range l.split("", channels) {
		if n, ok := l.common("", p.channels); !ok || n != p.partition {
			t.Errorf("partition %d has channels of others: %q", p.partition, p.channels)
		}
		if !slices.IsSortedFunc(p.channels, func(a, b backplane.Channel) int {
			return slices.Index(channels, a) - slices.Index(channels, b)
		}) {
			t.Errorf("the order has changed: %q", p.channels)
		}
		for _, ch := range p.channels {
			got[ch]++
		}
	}
	if len(got) != len(channels) || slices.Max(slices.Collect(maps.Values(got))) != 1 {
		t.Errorf("50 channels have become %v", got)
	}
}

// The program in docs/backplane.md finds the same names.
func TestDocumentedNames(t *testing.T) {
	page, err := os.ReadFile("../../../docs/backplane.md")
	if err != nil {
		t.Fatal(err)
	}
	program := regexp.MustCompile("(?s)```py\n(.*?)```").FindSubmatch(page)
	if program == nil {
		t.Fatal("docs/backplane.md has no program")
	}
	channels := []string{"all", "chat/all", "node:n1", "user:ada", "chat/user:ada", "group:", "group:/x", "user:ä", "group:node:x"}
	input, _ := json.Marshal(channels)
	for _, n := range []int{1, 16, 1000} {
		script := fmt.Sprintf("%s\nimport json\nprint(json.dumps([name(c, %d) for c in json.loads(%q)]))", program[1], n, input)
		output, err := exec.Command("python3", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		var got []string
		if err := json.Unmarshal(output, &got); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		l := sharded(n)
		for i, channel := range channels {
			prefix := prefixOf(channel)
			want := l.tags[l.partition(prefix, backplane.Channel(channel[len(prefix):]))] + channel
			if got[i] != want {
				t.Errorf("the program says %q, nodes %q", got[i], want)
			}
		}
	}
}
