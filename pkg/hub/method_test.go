package hub

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/pkg/protocol"
)

type goodHub struct{}

var _ = goodHub.unexported

func (goodHub) Nothing(context.Context, *Caller)                        {}
func (goodHub) Fails(context.Context, *Caller) error                    { return &Error{Message: "no"} }
func (goodHub) Value(context.Context, *Caller) int                      { return 7 }
func (goodHub) Add(_ context.Context, _ *Caller, a, b int) (int, error) { return a + b, nil }
func (goodHub) OnConnected(context.Context, *Caller) error              { return nil }
func (goodHub) unexported()                                             {}

func TestMethodsOf(t *testing.T) {
	ms, err := methodsOf(goodHub{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Nothing", "nothing", "NOTHING", "Add", "adD"} {
		if ms.lookup(name) == nil {
			t.Errorf("%s is not found", name)
		}
	}
	for _, name := range []string{"OnConnected", "onconnected", "unexported", "", "Ad"} {
		if m := ms.lookup(name); m != nil {
			t.Errorf("%s is found as %s", name, m.name)
		}
	}
}

func TestInvokeMethod(t *testing.T) {
	ms, err := methodsOf(goodHub{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, arguments string
		want            any
		wantErr         string
	}{
		{"Nothing", `[]`, nil, ""},
		{"Fails", `[]`, nil, "no"},
		{"Value", `[]`, 7, ""},
		{"Add", `[1,2]`, 3, ""},
	} {
		m := ms.lookup(tt.name)
		arguments, err := m.bind(protocol.JSON, []byte(tt.arguments))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got, err := m.invoke(context.Background(), nil, arguments)
		if got != tt.want || (err == nil) != (tt.wantErr == "") || (err != nil && err.Error() != tt.wantErr) {
			t.Errorf("%s%s = %v, %v; want %v, %q", tt.name, tt.arguments, got, err, tt.want, tt.wantErr)
		}
	}
}

type badHub struct{}

func (badHub) NoCaller(context.Context, string) error                      { return nil }
func (badHub) NoContext(*Caller) error                                     { return nil }
func (badHub) String() string                                              { return "" }
func (badHub) Variadic(context.Context, *Caller, ...string)                {}
func (badHub) Channel(_ context.Context, _ *Caller, c chan int)            {}
func (badHub) Function(_ context.Context, _ *Caller, f struct{ F func() }) {}
func (badHub) Reader(_ context.Context, _ *Caller, r interface{ Read() })  {}
func (badHub) TwoResults(context.Context, *Caller) (int, int)              { return 0, 0 }

//lint:ignore ST1008 that it is wrong is the point
func (badHub) ErrorFirst(context.Context, *Caller) (error, int)                       { return nil, 0 }
func (badHub) Same(context.Context, *Caller)                                          {}
func (badHub) SAME(context.Context, *Caller)                                          {}
func (badHub) OnConnected(context.Context)                                            {}
func (badHub) OnDisconnected(context.Context, *Caller) error                          { return nil }
func (badHub) Fine(_ context.Context, _ *Caller, m map[string][]*int) (string, error) { return "", nil }

func TestNewNamesEverythingThatIsWrong(t *testing.T) {
	_, err := New(badHub{}, WithKeepAliveInterval(0), WithMaximumReceiveMessageSize(-1), WithClusterKeys([]byte("short")))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"NoCaller is exported but does not begin with", "NoContext is exported but", "String is exported but", "Variadic is variadic",
		"Channel parameter 3: type chan int", "Function parameter 3: field F", "Reader parameter 3: type interface",
		"TwoResults has too many results", "ErrorFirst has too many results", "Duplicate definitions of 'Same'. Overloading is not supported.",
		"OnConnected is not that of", "OnDisconnected is not that of", "keep-alive interval 0s", "size -1", "cluster key 1 has 5 bytes",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %q", want)
		}
	}
	if strings.Contains(err.Error(), "Fine") {
		t.Error("error names the one good method")
	}
	if t.Failed() {
		t.Log(err)
	}
}

func TestNewRefusesNil(t *testing.T) {
	if _, err := New(nil); err == nil {
		t.Fatal("no error")
	}
}

type keepsHub struct{}

type keeper string

func (k *keeper) UnmarshalText(text []byte) error {
	*k = keeper(text)
	return nil
}

func (keepsHub) Plain(_ context.Context, _ *Caller, a string, b int, c bool, d float64) string {
	return fmt.Sprint(a, b, c, d)
}
func (keepsHub) Keeper(context.Context, *Caller, keeper) {}
func (keepsHub) Slice(context.Context, *Caller, []byte)  {}

// Only arguments whose address nobody can have kept are used again, and nothing of an
// invocation is left in them: a null, and what is missing, would let it be seen.
func TestArgumentsAreUsedAgain(t *testing.T) {
	ms, err := methodsOf(keepsHub{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"Plain": true, "Keeper": false, "Slice": false} {
		if got := ms.lookup(name).reusable; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	m := ms.lookup("Plain")
	a, err := m.bind(protocol.JSON, []byte(`["secret",1,true,2.5]`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.invoke(t.Context(), nil, a); got != "secret1 true 2.5" || err != nil {
		t.Fatal(got, err)
	}
	m.release(a)
	for i, v := range a.values {
		if v.IsValid() && !v.IsZero() {
			t.Errorf("value %d is still %v", i, v)
		}
	}
}
