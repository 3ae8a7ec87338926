package redisplane

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/backplanetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	redis := redistest.Start(t)
	backplanetest.Run(t, func(*testing.T) backplanetest.Cluster {
		return backplanetest.Cluster{
			Node: func(t *testing.T) backplane.Backplane {
				p, err := New(Options{URL: redis.URL()})
				if err != nil {
					t.Fatal(err)
				}
				return p
			},
		}
	})
}
