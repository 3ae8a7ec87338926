package redistest

import (
	"errors"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
)

func TestCluster(t *testing.T) {
	c := StartCluster(t)
	const key = "some key"
	first := c.Owner(key)
	if err := first.Client().Set(t.Context(), key, "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	second := c.Servers[0]
	if second == first {
		second = c.Servers[1]
	}
	c.Move(key, second)
	if got, err := second.Client().Get(t.Context(), key).Result(); got != "value" || err != nil {
		t.Errorf("after the move there is %q, %v", got, err)
	}
	c.Failover(second)
	third := second
	await.Until(t, "the replica has taken the place of the master", func() error {
		if third = c.Owner(key); third == second {
			return errors.New("it has not")
		}
		return nil
	})
	third.Kill()
	if fourth := c.Owner(key); fourth == third {
		t.Error("a dead server has the slot")
	}
}
