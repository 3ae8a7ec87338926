package hub

import "github.com/heliograph/heliograph/pkg/backplane"

// fences are those of a hand-over that have not been heard yet: the number of a partition,
// and the channel on which its fence is published. Both nodes begin with the same, since
// both know the connection's channels.
type fences map[int]backplane.Channel

// fencesOf returns one for each partition that the connection's channels lie in: on a channel
// of the connection alone, or of its user, where that is possible, since whoever is
// subscribed hears it.
func (h *Hub) fencesOf(id, user string, groups []groupState) fences {
	f := make(fences)
	add := func(ch backplane.Channel) {
		if p := h.attachment.Partition(ch); f[p] == "" {
			f[p] = ch
		}
	}
	add(backplane.Connection(id))
	if user != "" {
		add(backplane.User(user))
	}
	for _, g := range groups {
		add(backplane.Group(string(g.Name)))
	}
	add(backplane.All)
	return f
}

func (f fences) channels() []backplane.Channel {
	channels := make([]backplane.Channel, 0, len(f))
	for _, ch := range f {
		channels = append(channels, ch)
	}
	return channels
}

// heard notes a fence, and reports whether it is new.
func (f fences) heard(partition int) bool {
	if f[partition] == "" {
		return false
	}
	delete(f, partition)
	return true
}

func (f fences) unheard(partition int) bool { return f[partition] != "" }
