package backplane

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// The table keeps what is alive, and not for long what is not.
func TestHomeTableForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const alive = 2 * minSwept
		var table homeTable
		key := func(name string, i int) homeKey { return homeKey{"", fmt.Sprint(name, i)} }
		for i := range alive {
			table.set(key("alive", i), Home{Node: "n", Epoch: 1}, time.Hour)
		}
		for i := range 10 * alive {
			table.set(key("mortal", i), Home{Node: "n", Epoch: 1}, time.Second)
			if i%100 == 0 {
				time.Sleep(time.Second)
				if h, ok := table.find(key("mortal", i)); ok {
					t.Fatalf("%v at the end of its life", h)
				}
			}
		}
		if n, most := len(table.records), 2*(alive+100); n > most {
			t.Errorf("%d records, want at most %d", n, most)
		}
		for i := range alive {
			if _, ok := table.find(key("alive", i)); !ok {
				t.Fatalf("record %d is gone", i)
			}
		}
	})
}
