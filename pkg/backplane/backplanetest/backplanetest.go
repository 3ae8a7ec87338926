// Package backplanetest holds implementations of package backplane to every sentence
// of its interfaces.
package backplanetest

import (
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A Cluster makes nodes that hear each other.
type Cluster struct {
	// Node starts a node, which the tests close. It may be called at any time of the
	// test that the cluster is for.
	Node func(t *testing.T) backplane.Backplane
}

// Run runs the suite. Each test has a cluster of its own, or one that earlier tests
// have left: they close their nodes. t.Cleanup ends what a cluster needs to run.
//
// Goroutines that a closed node has left behind are a failure, so cluster starts what
// is not a node's (such as a proxy) before it returns.
func Run(t *testing.T, cluster func(t *testing.T) Cluster) {
	tests := []struct {
		name string
		run  func(*testing.T, Cluster)
	}{
		{"NodeID", testNodeID},
		{"Healthy", testHealthy},
		{"Prefixes", testPrefixes},
		{"PrefixTaken", testPrefixTaken},
		{"PrefixesIsolate", testPrefixesIsolate},

		{"SubscribedBeforeWaitReturns", testSubscribedBeforeWaitReturns},
		{"SubscribedAgainBeforeWaitReturns", testSubscribedAgainBeforeWaitReturns},
		{"EachHolderWaits", testEachHolderWaits},
		{"ManyChannelsAtOnce", testManyChannelsAtOnce},
		{"SubscribedWithoutWait", testSubscribedWithoutWait},
		{"AllIsSubscribed", testAllIsSubscribed},
		{"Unsubscribe", testUnsubscribe},
		{"UnsubscribeNothing", testUnsubscribeNothing},
		{"Holders", testHolders},
		{"Flips", testFlips},
		{"FlipsBesideAHolder", testFlipsBesideAHolder},
		{"SubscribeNeverBlocks", testSubscribeNeverBlocks},
		{"LocksOfTheReceiver", testLocksOfTheReceiver},

		{"Order", testOrder},
		{"OrderOfManyPublishers", testOrderOfManyPublishers},
		{"ChannelNames", testChannelNames},
		{"SeveralChannels", testSeveralChannels},
		{"Nobody", testNobody},
		{"Bodies", testBodies},
		{"BodyMayBeReused", testBodyMayBeReused},
		{"PublishUnderEndingContext", testPublishUnderEndingContext},
		{"PublishCounted", testPublishCounted},
		{"PublishCountedFails", testPublishCountedFails},
		{"PublishKept", testPublishKept},
		{"PublishKeptFails", testPublishKeptFails},

		{"Nodes", testNodes},
		{"NodesHear", testNodesHear},
		{"NodesFails", testNodesFails},
		{"NodeLeft", testNodeLeft},

		{"Node", testNode},
		{"Advertise", testAdvertise},

		{"Claim", testClaim},
		{"LostClaim", testLostClaim},
		{"ClaimRace", testClaimRace},
		{"ConnectionIDs", testConnectionIDs},
		{"HomesIsolate", testHomesIsolate},
		{"Renew", testRenew},
		{"RenewMany", testRenewMany},
		{"End", testEnd},
		{"Move", testMove},
		{"MovedLife", testMovedLife},
		{"MoveRace", testMoveRace},
		{"HomesOutliveNodes", testHomesOutliveNodes},
		{"HomesFail", testHomesFail},

		{"Detach", testDetach},
		{"DetachDuringDeliver", testDetachDuringDeliver},
		{"Close", testClose},
		{"CloseInTheMiddle", testCloseInTheMiddle},
		{"CloseDuringDeliver", testCloseDuringDeliver},
		{"CloseEndsGoroutines", testCloseEndsGoroutines},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, cluster(t)) })
	}
}
