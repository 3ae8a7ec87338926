package hub

import (
	"errors"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
)

// A user's connection is closed before its handshake, too.
func TestCloseUserBeforeTheHandshake(t *testing.T) {
	h, address := serve(t, panicking{})
	c := dial(t, address, "ada")
	await.Until(t, "it is there", func() error {
		if len(h.handshakes.ofUser("ada")) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	if err := h.CloseUser(t.Context(), "ada"); err != nil {
		t.Fatal(err)
	}
	c.expect("closed 1000")
}
