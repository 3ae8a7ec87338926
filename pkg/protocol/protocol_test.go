package protocol

import "testing"

func TestByName(t *testing.T) {
	for name, want := range map[string]Protocol{"json": JSON, "JSON": JSON, "MessagePack": MessagePack, "xml": nil, "": nil} {
		if got := ByName(name); got != want {
			t.Errorf("ByName(%q) = %v, want %v", name, got, want)
		}
	}
	for p, want := range map[Protocol]string{JSON: "json Text", MessagePack: "messagepack Binary"} {
		if got := p.Name() + " " + p.TransferFormat().String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
