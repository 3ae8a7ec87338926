package backplane

import "encoding/binary"

// A cursor takes fields off the front of bytes that nobody vouches for. A field that
// is not wholly there is zero, as are all after it, and failed says so: callers look
// once, at the end. What it returns refers to the bytes.
type cursor struct {
	rest   []byte
	failed bool
}

// uvarint takes an unsigned LEB128 number of at most 64 bits.
func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

// take takes n bytes. Their capacity ends with them, so that appending to one field
// never writes over the next.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.rest)) {
		c.fail()
		return nil
	}
	field := c.rest[:n:n]
	c.rest = c.rest[n:]
	return field
}

// field takes bytes of any length, which stands before them.
func (c *cursor) field() []byte { return c.take(c.uvarint()) }

// count takes a number of elements of at least size bytes each. There are never more
// than can follow, so that a number alone makes nobody allocate.
func (c *cursor) count(size int) int {
	n := c.uvarint()
	if n > uint64(len(c.rest)/size) {
		c.fail()
		return 0
	}
	return int(n)
}

func (c *cursor) fail() { c.rest, c.failed = nil, true }

// uvarintLen returns how many bytes v takes.
func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
