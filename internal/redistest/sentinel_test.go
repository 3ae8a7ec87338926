package redistest

import (
	"fmt"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
)

func TestSentinels(t *testing.T) {
	s := StartSentinels(t)
	first := s.Master()
	if first != s.Servers[0] {
		t.Errorf("the master is %s, want %s", first.Addr(), s.Servers[0].Addr())
	}
	s.Failover()
	var second *Server
	await.Until(t, "another is the master", func() error {
		if second = s.Master(); second == first {
			return fmt.Errorf("it is %s still", first.Addr())
		}
		return nil
	})
	await.Until(t, "the former master is a replica", func() error {
		if role, err := first.Role(t.Context()); err != nil || role != "slave" {
			return fmt.Errorf("its role is %q, %v", role, err)
		}
		return nil
	})
	second.Kill()
	if third := s.Master(); third == second {
		t.Error("a dead server is the master")
	}
}
