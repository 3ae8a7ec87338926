package protocol_test

import (
	"errors"
	"fmt"

	"github.com/heliograph/heliograph/pkg/protocol"
)

func Example() {
	// What has arrived so far: an invocation, and the beginning of another message.
	received := []byte(`{"target":"Add","arguments":[1,2],"invocationId":"0","type":1}` + "\x1e" + `{"type":`)

	p := protocol.JSON
	for {
		message, n, err := p.Parse(received, 32<<10)
		if errors.Is(err, protocol.ErrIncomplete) {
			break // until more arrives
		}
		if err != nil {
			fmt.Println("close the connection:", err)
			return
		}
		if m, ok := message.(*protocol.Invocation); ok {
			answer := &protocol.Completion{InvocationID: m.InvocationID}
			var a, b int
			if err := p.BindArguments(m.RawArguments, &a, &b); err != nil {
				answer.Error = err.Error()
			} else {
				answer.HasResult, answer.Result = true, a+b
			}
			frame, err := p.Append(nil, answer)
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Printf("%q\n", frame)
		}
		received = received[n:]
	}
	fmt.Printf("left: %s\n", received)

	// Output:
	// "{\"type\":3,\"invocationId\":\"0\",\"result\":3}\x1e"
	// left: {"type":
}

// What came in one protocol leaves in the other.
func ExampleRaw() {
	var when protocol.Raw
	if err := protocol.MessagePack.BindArguments([]byte("\x91\xd6\xff\x58\xec\x1b\x70"), &when); err != nil {
		fmt.Println(err)
		return
	}
	frame, err := protocol.JSON.Append(nil, &protocol.Invocation{Target: "Tick", Arguments: []any{when}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", frame[:len(frame)-1])
	// Output: {"type":1,"target":"Tick","arguments":["2017-04-10T23:55:28Z"]}
}
