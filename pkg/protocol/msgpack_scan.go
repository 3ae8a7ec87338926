package protocol

import (
	"encoding/binary"
	"errors"
)

// maxPackDepth is how many arrays, maps and pointers may be inside one another in a
// value: the reference implementation's limit.
const maxPackDepth = 500

var (
	errPackDepth  = errors.New("value is nested too deep")
	errPackShort  = errors.New("MessagePack ends within a value")
	errPackPrefix = errors.New("MessagePack has no value that begins with C1")
	errPackRest   = errors.New("MessagePack goes on after the value")
)

// packKind is what a value of MessagePack is, by its first byte.
type packKind int

const (
	packInvalid packKind = iota
	packNil
	packBool
	packInt
	packFloat
	packStr
	packBin
	packArray
	packMap
	packExt
)

var packKindNames = [...]string{"nothing", "nil", "bool", "integer", "float", "str", "bin", "array", "map", "ext"}

func (k packKind) String() string { return packKindNames[k] }

// kindOf returns the kind of the value that b begins with, packInvalid if it begins
// with none.
func kindOf(b []byte) packKind {
	if len(b) == 0 {
		return packInvalid
	}
	switch c := b[0]; {
	case c <= 0x7f, c >= 0xe0, 0xcc <= c && c <= 0xd3:
		return packInt
	case c <= 0x8f, c == 0xde, c == 0xdf:
		return packMap
	case c <= 0x9f, c == 0xdc, c == 0xdd:
		return packArray
	case c <= 0xbf, 0xd9 <= c && c <= 0xdb:
		return packStr
	case c == 0xc0:
		return packNil
	case c == 0xc2, c == 0xc3:
		return packBool
	case 0xc4 <= c && c <= 0xc6:
		return packBin
	case c == 0xca, c == 0xcb:
		return packFloat
	case c == 0xc1:
		return packInvalid
	}
	return packExt // C7 to C9, D4 to D8
}

// skipPack returns what follows the first value of b. It takes neither stack nor time
// beyond the value's length, however it is nested. A value that has passed it holds
// as many elements as its headers say, so that memory may be allocated by them.
func skipPack(b []byte) (rest []byte, err error) {
	for pending := int64(1); pending > 0; pending-- {
		size, elements, err := measure(b)
		if err != nil {
			return nil, err
		}
		if size > int64(len(b)) {
			return nil, errPackShort
		}
		b = b[size:]
		pending += elements
	}
	return b, nil
}

// cutPack cuts b, which has been checked, after its first value.
func cutPack(b []byte) (value, rest []byte) {
	rest, _ = skipPack(b)
	n := len(b) - len(rest)
	return b[:n:n], rest
}

// measure returns how many bytes the first value of b takes without its elements,
// which may be more than there are, and how many elements follow.
func measure(b []byte) (size, elements int64, err error) {
	if len(b) == 0 {
		return 0, 0, errPackShort
	}
	c := b[0]
	switch {
	case c <= 0x7f, c >= 0xe0:
		return 1, 0, nil
	case c <= 0x8f:
		return 1, 2 * int64(c&0x0f), nil
	case c <= 0x9f:
		return 1, int64(c & 0x0f), nil
	case c <= 0xbf:
		return 1 + int64(c&0x1f), 0, nil
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, bool
		return 1, 0, nil
	case 0xcc, 0xd0: // integers of 1, 2, 4 and 8 bytes
		return 2, 0, nil
	case 0xcd, 0xd1:
		return 3, 0, nil
	case 0xca, 0xce, 0xd2: // and float 32
		return 5, 0, nil
	case 0xcb, 0xcf, 0xd3: // and float 64
		return 9, 0, nil
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // ext of 1, 2, 4, 8 and 16 bytes
		return 2 + 1<<(c-0xd4), 0, nil
	case 0xc4, 0xd9: // bin and str with lengths of 1, 2 and 4 bytes
		n, err := lengthAfter(b, 1)
		return 2 + n, 0, err
	case 0xc5, 0xda:
		n, err := lengthAfter(b, 2)
		return 3 + n, 0, err
	case 0xc6, 0xdb:
		n, err := lengthAfter(b, 4)
		return 5 + n, 0, err
	case 0xc7: // ext with lengths of 1, 2 and 4 bytes
		n, err := lengthAfter(b, 1)
		return 3 + n, 0, err
	case 0xc8:
		n, err := lengthAfter(b, 2)
		return 4 + n, 0, err
	case 0xc9:
		n, err := lengthAfter(b, 4)
		return 6 + n, 0, err
	case 0xdc: // arrays and maps with counts of 2 and 4 bytes
		n, err := lengthAfter(b, 2)
		return 3, n, err
	case 0xdd:
		n, err := lengthAfter(b, 4)
		return 5, n, err
	case 0xde:
		n, err := lengthAfter(b, 2)
		return 3, 2 * n, err
	case 0xdf:
		n, err := lengthAfter(b, 4)
		return 5, 2 * n, err
	}
	return 0, 0, errPackPrefix
}

// lengthAfter reads the length of so many bytes that follows the first byte of b.
func lengthAfter(b []byte, width int) (int64, error) {
	if len(b) <= width {
		return 0, errPackShort
	}
	switch width {
	case 1:
		return int64(b[1]), nil
	case 2:
		return int64(binary.BigEndian.Uint16(b[1:])), nil
	}
	return int64(binary.BigEndian.Uint32(b[1:])), nil
}

// checkPack reports what keeps raw from being one value.
func checkPack(raw []byte) error {
	rest, err := skipPack(raw)
	if err == nil && len(rest) > 0 {
		err = errPackRest
	}
	return err
}
