package redisplane

import "testing"

func TestDirectory(t *testing.T) {
	with := announcement{ID: "with", Prefixes: []string{"a/"}, Address: "http://10.0.0.1:7070"}
	without := announcement{ID: "without", Prefixes: []string{"a/"}}
	for _, tt := range []struct {
		name, prefix, id       string
		looked, known, settled bool
	}{
		{name: "known", prefix: "a/", id: "with", known: true, settled: true},
		{name: "of another prefix", prefix: "b/", id: "with"},
		{name: "unknown", prefix: "a/", id: "nobody"},
		{name: "unknown, looked for", prefix: "a/", id: "nobody", looked: true, settled: true},
		{name: "without an address, which may come any moment", prefix: "a/", id: "without", known: true},
		{name: "without an address, looked for", prefix: "a/", id: "without", looked: true, known: true, settled: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d directory
			d.replace(map[string]announcement{with.ID: with, without.ID: without})
			if tt.looked {
				d.miss(tt.prefix, tt.id)
			}
			n, known, settled := d.find(tt.prefix, tt.id)
			if known != tt.known || settled != tt.settled || known && n.ID != tt.id {
				t.Errorf("got %+v, known %t, settled %t; want known %t, settled %t", n, known, settled, tt.known, tt.settled)
			}
		})
	}
}
