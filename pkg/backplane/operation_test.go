package backplane

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	testKeys = [][]byte{[]byte("a key of the cluster")}
	testID   = OperationID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
)

const (
	testIDBytes    = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
	noEarlierBytes = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// The MACs are of another implementation of HMAC.
var operations = []struct {
	name      string
	channel   Channel
	operation Operation
	mac, rest string
}{{
	name:    "ask",
	channel: "chat/" + Connection("c1"),
	operation: Operation{
		ID: testID, Asker: "n1", Kind: OpAsk, TargetKind: TargetConnection, Target: "c1",
		Encodings: []Encoding{{"json", []byte("{}\x1e")}, {"messagepack", []byte("\x01\x80")}}, Lease: 90_000,
	},
	mac:  "6b08bd18f3fa1c938e7e0ff84e36079375ded02550ae7f6fd5ee886636dd4792",
	rest: testIDBytes + "\x02n1\x06\x01\x02c1\x00\x00\x00\x00\x02\x04json\x03{}\x1e\x0bmessagepack\x02\x01\x80\x90\xbf\x05" + noEarlierBytes,
}, {
	name:    "add to group",
	channel: All,
	operation: Operation{
		ID: testID, Asker: "n1", Kind: OpAddToGroup, TargetKind: TargetUser, Target: "ada",
		Group: "room", Expires: 1767225600000, Reason: "why", AllowReconnect: true,
		Earlier: OperationID{15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1},
	},
	mac:  "a493940f2fbaf46885995e6b8e7fc6b6efe208d3c5c44955b6dbfd3f7abf2878",
	rest: testIDBytes + "\x02n1\x02\x02\x03ada\x04room\x80\xd0\xea\xb6\xb73\x03why\x01\x00\x00\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08\x07\x06\x05\x04\x03\x02\x01\x00",
}}

var replies = []struct {
	name      string
	channel   Channel
	reply     Reply
	mac, rest string
}{{
	name:    "result",
	channel: Node("n1"),
	reply:   Reply{ID: testID, Node: "n2", Outcome: OutcomeDone, Result: Encoding{"json", []byte("42")}},
	mac:     "3a04c16cc10d059c67d39f249bfb8c52f455e3949594471731bc94315e1d5230",
	rest:    testIDBytes + "\x02n2\x02\x00\x04json\x0242",
}, {
	name:    "failed",
	channel: Node("n1"),
	reply:   Reply{ID: testID, Node: "n2", Outcome: OutcomeFailed, Error: "no room", Result: Encoding{Frame: []byte{}}},
	mac:     "27885f0156d25d05079872cc2d61dce73a83cf23ac892aed81f3bac1912df168",
	rest:    testIDBytes + "\x02n2\x03\x07no room\x00\x00",
}}

// A signedBody is a body with a MAC, and how such a one is parsed.
type signedBody struct {
	name    string
	channel Channel
	body    []byte
	parse   func(body []byte, keys [][]byte, ch Channel) (any, error)
}

func parseOperation(body []byte, keys [][]byte, ch Channel) (any, error) {
	return ParseOperation(body, keys, ch)
}

func parseReply(body []byte, keys [][]byte, ch Channel) (any, error) {
	return ParseReply(body, keys, ch)
}

func signedBodies() (all []signedBody) {
	for _, test := range operations {
		all = append(all, signedBody{"operation/" + test.name, test.channel, AppendOperation(nil, testKeys, test.channel, test.operation), parseOperation})
	}
	for _, test := range replies {
		all = append(all, signedBody{"reply/" + test.name, test.channel, AppendReply(nil, testKeys, test.channel, test.reply), parseReply})
	}
	return all
}

func signedBytes(t *testing.T, kind, mac, rest string) string {
	t.Helper()
	sum, err := hex.DecodeString(mac)
	if err != nil {
		t.Fatal(err)
	}
	return kind + string(sum) + rest
}

func TestOperationBytes(t *testing.T) {
	for _, test := range operations {
		t.Run(test.name, func(t *testing.T) {
			want := signedBytes(t, "\x02", test.mac, test.rest)
			got := AppendOperation([]byte("before"), testKeys, test.channel, test.operation)
			if diff := cmp.Diff("before"+want, string(got)); diff != "" {
				t.Error("appended (-want +got)\n", diff)
			}
			parsed, err := ParseOperation([]byte(want), testKeys, test.channel)
			if diff := cmp.Diff(test.operation, parsed); err != nil || diff != "" {
				t.Errorf("parsed (-want +got)\n%s %v", diff, err)
			}
			if body := []byte(want); !IsOperation(body) || IsReply(body) {
				t.Error("not taken for an operation alone")
			}
		})
	}
}

func TestReplyBytes(t *testing.T) {
	for _, test := range replies {
		t.Run(test.name, func(t *testing.T) {
			want := signedBytes(t, "\x03", test.mac, test.rest)
			got := AppendReply([]byte("before"), testKeys, test.channel, test.reply)
			if diff := cmp.Diff("before"+want, string(got)); diff != "" {
				t.Error("appended (-want +got)\n", diff)
			}
			parsed, err := ParseReply([]byte(want), testKeys, test.channel)
			if diff := cmp.Diff(test.reply, parsed); err != nil || diff != "" {
				t.Errorf("parsed (-want +got)\n%s %v", diff, err)
			}
			if body := []byte(want); !IsReply(body) || IsOperation(body) {
				t.Error("not taken for a reply alone")
			}
		})
	}
}

func TestKindOfNothing(t *testing.T) {
	if IsOperation(nil) || IsReply(nil) {
		t.Error("no bytes are taken for an operation or a reply")
	}
}

// Whatever byte is changed, by whoever has no key, the body is refused.
func TestChangedBodyIsRefused(t *testing.T) {
	for _, test := range signedBodies() {
		t.Run(test.name, func(t *testing.T) {
			for i := range test.body {
				for _, flip := range []byte{0x01, 0x80, 0xff} {
					body := slices.Clone(test.body)
					body[i] ^= flip
					want := ErrForged
					if i == 0 {
						want = ErrMalformed // it is of another kind
					}
					expectRefused(t, test, body, testKeys, test.channel, want)
				}
			}
			expectRefused(t, test, append(slices.Clone(test.body), 0), testKeys, test.channel, ErrForged)
		})
	}
}

// A body says what it says on its own channel.
func TestBodyOfAnotherChannelIsRefused(t *testing.T) {
	for _, test := range signedBodies() {
		for _, ch := range []Channel{
			"", All + "x", test.channel + "x", test.channel[:len(test.channel)-1], Connection("c2"), Node("n2"),
			"other/" + test.channel, Connection("c1"), // of another hub
		} {
			expectRefused(t, test, test.body, testKeys, ch, ErrForged)
		}
	}
}

// The MAC tells where the channel ends.
func TestMACSeparatesChannelAndBody(t *testing.T) {
	body := AppendReply(nil, testKeys, Node("n"), replies[0].reply)
	id := body[1+macSize]
	shifted := slices.Delete(slices.Clone(body), 1+macSize, 2+macSize)
	if _, err := ParseReply(shifted, testKeys, Node("n"+string(rune(id)))); !errors.Is(err, ErrForged) {
		t.Errorf("a byte of the body counts as one of the channel: %v", err)
	}
}

// While a key is replaced, every node accepts both.
func TestKeyRotation(t *testing.T) {
	one, two, other := []byte("one"), []byte("two"), []byte("other")
	for _, test := range []struct {
		name            string
		signed, accepts [][]byte
		want            error
	}{
		{"same", [][]byte{one}, [][]byte{one}, nil},
		{"accepted beside", [][]byte{one}, [][]byte{two, one}, nil},
		{"the first signs", [][]byte{two, one}, [][]byte{two}, nil},
		{"the second does not", [][]byte{two, one}, [][]byte{one}, ErrForged},
		{"other", [][]byte{other}, [][]byte{one, two}, ErrForged},
		{"none accepted", [][]byte{one}, nil, ErrForged},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseOperation(AppendOperation(nil, test.signed, All, operations[1].operation), test.accepts, All)
			if !errors.Is(err, test.want) {
				t.Errorf("operation: %v, want %v", err, test.want)
			}
			_, err = ParseReply(AppendReply(nil, test.signed, Node("n"), replies[0].reply), test.accepts, Node("n"))
			if !errors.Is(err, test.want) {
				t.Errorf("reply: %v, want %v", err, test.want)
			}
		})
	}
}

// What is cut off is refused, and so it is if a node has signed it.
func TestCutOffBodyIsRefused(t *testing.T) {
	for _, test := range signedBodies() {
		t.Run(test.name, func(t *testing.T) {
			for n := range test.body {
				want := ErrForged
				if n < 1+macSize {
					want = ErrMalformed
				}
				body := slices.Clone(test.body[:n])
				expectRefused(t, test, body, testKeys, test.channel, want)
				if n >= 1+macSize {
					sign(body, testKeys[0], test.channel)
					expectRefused(t, test, body, testKeys, test.channel, ErrMalformed)
				}
			}
		})
	}
}

// A later node may add fields, and sign them.
func TestLaterFieldsAreIgnored(t *testing.T) {
	for _, test := range signedBodies() {
		want, err := test.parse(test.body, testKeys, test.channel)
		if err != nil {
			t.Fatal(err)
		}
		body := append(slices.Clone(test.body), "of a later node"...)
		sign(body, testKeys[0], test.channel)
		got, err := test.parse(body, testKeys, test.channel)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: (-without +with)\n%s %v", test.name, diff, err)
		}
	}
}

// Numbers that promise more than there is, from a node with a key.
func TestMalformedOperation(t *testing.T) {
	const huge = "\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
	for name, rest := range map[string]string{
		"long asker":              testIDBytes + huge + "n1",
		"long target":             testIDBytes + "\x01n\x01\x01" + huge + "c",
		"many encodings":          testIDBytes + "\x01n\x06\x01\x01c\x00\x00\x00\x00" + huge + "\x04json\x00",
		"long frame":              testIDBytes + "\x01n\x06\x01\x01c\x00\x00\x00\x00\x01\x04json" + huge + "ab",
		"encoding without a name": testIDBytes + "\x01n\x06\x01\x01c\x00\x00\x00\x00\x01\x00\x02ab",
		"expiry over 64 bits":     testIDBytes + "\x01n\x02\x01\x01c\x01g\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00",
	} {
		body := signed(kindOperation, rest)
		if o, err := ParseOperation(body, testKeys, All); !errors.Is(err, ErrMalformed) || !cmp.Equal(o, Operation{}) {
			t.Errorf("%s: %+v, %v, want %v", name, o, err, ErrMalformed)
		}
	}
}

// To a node that knows messages alone, the others are of a kind that it does not know.
func TestOperationsAreNoMessages(t *testing.T) {
	for _, test := range signedBodies() {
		if _, err := ParseMessage(test.body); !errors.Is(err, ErrVersion) || errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want %v", test.name, err, ErrVersion)
		}
	}
}

func expectRefused(t *testing.T, test signedBody, body []byte, keys [][]byte, ch Channel, want error) {
	t.Helper()
	got, err := test.parse(body, keys, ch)
	if !errors.Is(err, want) || errors.Is(err, ErrForged) && errors.Is(err, ErrMalformed) {
		t.Errorf("%s: %x on %q: error %v, want %v", test.name, body, ch, err, want)
	}
	if !cmp.Equal(got, any(Operation{})) && !cmp.Equal(got, any(Reply{})) {
		t.Errorf("%s: refused, and also %+v", test.name, got)
	}
}

// signed returns a body of the kind on the channel All.
func signed(kind byte, rest string) []byte {
	body := append([]byte{kind}, make([]byte, macSize)...)
	body = append(body, rest...)
	sign(body, testKeys[0], All)
	return body
}

// Nothing is allocated for what only a number promises.
func TestOperationsDoNotOverAllocate(t *testing.T) {
	const sixteenMillion = "\xff\xff\xff\x07"
	for _, rest := range []string{
		testIDBytes + sixteenMillion + "n1",
		testIDBytes + "\x01n\x06\x01\x01c\x00\x00\x00\x00" + sixteenMillion + "\x04json\x00",
		testIDBytes + "\x01n\x06\x01\x01c\x00\x00\x00\x00\x80\x80\x01" + strings.Repeat("\x01p\x00", 1<<14),
	} {
		body := signed(kindOperation, rest)
		if n := allocated(func() { ParseOperation(body, testKeys, All) }); n > mayAllocate(len(body)) {
			t.Errorf("operation of %d bytes: %d allocated", len(body), n)
		}
		body = signed(kindReply, rest)
		if n := allocated(func() { ParseReply(body, testKeys, All) }); n > mayAllocate(len(body)) {
			t.Errorf("reply of %d bytes: %d allocated", len(body), n)
		}
	}
}

// Whatever a node may have signed means the same when it is written anew. Without its
// MAC it means nothing.
func FuzzOperation(f *testing.F) {
	for _, test := range operations {
		f.Add([]byte(test.rest))
	}
	f.Add(binary.AppendUvarint([]byte(testIDBytes), 1<<62))
	f.Fuzz(func(t *testing.T, rest []byte) {
		body := signed(kindOperation, string(rest))
		var o Operation
		var err error
		if n := allocated(func() { o, err = ParseOperation(body, testKeys, All) }); n > mayAllocate(len(body)) {
			t.Fatalf("%d bytes allocated for %d", n, len(body))
		}
		expectSound(t, err)
		if err == nil {
			again, err := ParseOperation(AppendOperation(nil, testKeys, All, o), testKeys, All)
			if diff := cmp.Diff(o, again); err != nil || diff != "" {
				t.Fatal(diff, err)
			}
		}
		if _, err := ParseOperation(unsigned(body), testKeys, All); !errors.Is(err, ErrForged) {
			t.Fatalf("parsed without a MAC: %v", err)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, test := range replies {
		f.Add([]byte(test.rest))
	}
	f.Add(binary.AppendUvarint([]byte(testIDBytes), 1<<62))
	f.Fuzz(func(t *testing.T, rest []byte) {
		body := signed(kindReply, string(rest))
		var r Reply
		var err error
		if n := allocated(func() { r, err = ParseReply(body, testKeys, All) }); n > mayAllocate(len(body)) {
			t.Fatalf("%d bytes allocated for %d", n, len(body))
		}
		expectSound(t, err)
		if err == nil {
			again, err := ParseReply(AppendReply(nil, testKeys, All, r), testKeys, All)
			if diff := cmp.Diff(r, again); err != nil || diff != "" {
				t.Fatal(diff, err)
			}
		}
		if _, err := ParseReply(unsigned(body), testKeys, All); !errors.Is(err, ErrForged) {
			t.Fatalf("parsed without a MAC: %v", err)
		}
	})
}

// expectSound fails the test at an error that no signed body may meet with.
func expectSound(t *testing.T, err error) {
	t.Helper()
	if err != nil && (!errors.Is(err, ErrMalformed) || errors.Is(err, ErrForged)) {
		t.Fatalf("error %v, want %v", err, ErrMalformed)
	}
}

// unsigned returns the body with another MAC.
func unsigned(body []byte) []byte {
	body = slices.Clone(body)
	body[1] ^= 1
	return body
}
