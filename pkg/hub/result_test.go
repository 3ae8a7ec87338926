package hub

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// asker is a hub that asks clients.
type asker struct {
	connected chan error // what asking from within OnConnected gave; nil: does not ask
}

func (a *asker) OnConnected(ctx context.Context, c *Caller) error {
	if a.connected != nil {
		_, err := Invoke[int](ctx, c.Clients().Caller(), "Answer")
		a.connected <- err
	}
	return nil
}

func (a *asker) ID(_ context.Context, c *Caller) string { return c.ConnectionID() }

func (a *asker) AskMe(ctx context.Context, c *Caller, question string) (string, error) {
	return Invoke[string](ctx, c.Clients().Caller(), "Answer", question)
}

func (a *asker) Ask(ctx context.Context, c *Caller, id string) (int, error) {
	return Invoke[int](ctx, c.Clients().Client(id), "Answer")
}

func (a *asker) AskInVain(ctx context.Context, c *Caller) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	return Invoke[int](ctx, c.Clients().Caller(), "Answer")
}

const askFailed = "An unexpected error occurred invoking "

func TestClientResults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer string // frame; %s is the id that was asked under
		want   string // completion of AskMe
	}{
		{"result", `{"type":3,"invocationId":"%s","result":"blue"}`, `"result":"blue"`},
		{"null", `{"type":3,"invocationId":"%s","result":null}`, `"result":""`},
		{"error", `{"type":3,"invocationId":"%s","error":"no idea"}`, `"error":"` + askFailed + `'AskMe' on the server. HubException: no idea"`},
		{"neither", `{"type":3,"invocationId":"%s"}`, `"error":"` + askFailed + `'AskMe' on the server. HubException: Client didn't provide a result."`},
		{"another type", `{"type":3,"invocationId":"%s","result":{}}`, `"error":"` + askFailed + `'AskMe' on the server. HubException: Error trying to deserialize result to string."`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := serveAt(t, &asker{})
			// One invocation runs at a time, and yet the next one can run while the first waits
			// for the client.
			c.write(call("1", "AskMe", `"colour?"`), call("2", "ID", ""))
			var id string
			for range 2 {
				frame := c.read()
				if rest, asked := strings.CutPrefix(frame, `{"type":1,"invocationId":"`); asked {
					id, _, _ = strings.Cut(rest, `"`)
					if want := `{"type":1,"invocationId":"` + id + `","target":"Answer","arguments":["colour?"]}`; frame != want {
						t.Errorf("asked %s", frame)
					}
				}
			}
			c.write(strings.Replace(tt.answer, "%s", id, 1), strings.Replace(tt.answer, "%s", id, 1)) // the second is ignored
			c.expect(`{"type":3,"invocationId":"1",` + tt.want + `}`)
			c.invoke("ID")
		})
	}
}

func TestClientResultsThatNeverCome(t *testing.T) {
	a := &asker{connected: make(chan error, 3)}
	h, address := serve(t, a, WithDetailedErrors())
	one, two := connect(t, address, ""), connect(t, address, "")
	if err := <-a.connected; !errors.Is(err, ErrConnecting) {
		t.Errorf("within OnConnected: %v", err)
	}
	id := strings.Trim(strings.TrimPrefix(two.invoke("ID"), `"result":`), `"`)

	if got, want := one.invoke("Ask", "nobody"), `"error":"`+askFailed+`'Ask' on the server. invoke \"Answer\": Connection 'nobody' does not exist."`; got != want {
		t.Errorf("unknown connection:\ngot  %s\nwant %s", got, want)
	}
	one.start("AskInVain")
	one.expect(`{"type":1,"invocationId":"s1","target":"Answer","arguments":[]}`,
		`{"type":3,"invocationId":"2","error":"`+askFailed+`'AskInVain' on the server. HubException: Invocation canceled by the server."}`)
	one.write(result("s1", "1")) // too late: ignored

	one.start("Ask", id)
	two.expect(`{"type":1,"invocationId":"s2","target":"Answer","arguments":[]}`)
	three := connect(t, address, "")
	threeID := strings.Trim(strings.TrimPrefix(three.invoke("ID"), `"result":`), `"`)
	three.write(result("s2", "666")) // is not three's to answer
	three.expect(`{"type":7,"error":"Connection closed with an error. InvalidOperationException: Connection ID '`+threeID+`' is not valid for invocation ID 's2'.","allowReconnect":true}`, "closed 1000")
	two.conn.Close()
	one.expect(`{"type":3,"invocationId":"3","error":"` + askFailed + `'Ask' on the server. invoke \"Answer\": Connection '` + id + `' disconnected."}`)
	if n := len(h.results.pending); n != 0 {
		t.Errorf("%d answers are still awaited", n)
	}
}
