package main

import (
	"cmp"
	"slices"
)

// errorCounts counts errors by their texts. The number of texts is bounded.
type errorCounts map[string]int

const maxErrorTexts = 50

const otherErrors = "other errors"

func (c errorCounts) add(text string) { c.addN(text, 1) }

func (c errorCounts) addN(text string, n int) {
	if _, known := c[text]; !known && len(c) >= maxErrorTexts {
		text = otherErrors
	}
	c[text] += n
}

// sorted returns the errors, the most frequent first.
func (c errorCounts) sorted() []counted {
	all := make([]counted, 0, len(c))
	for text, n := range c {
		all = append(all, counted{text, n})
	}
	slices.SortFunc(all, func(a, b counted) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	return all
}
