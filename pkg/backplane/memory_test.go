package backplane_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/backplanetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBus(t *testing.T) {
	backplanetest.Run(t, func(*testing.T) backplanetest.Cluster {
		var bus backplane.Bus
		return backplanetest.Cluster{
			Node: func(*testing.T) backplane.Backplane { return bus.Join() },
		}
	})
}
