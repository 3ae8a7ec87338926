package protocol

import (
	"fmt"
	"reflect"

	"github.com/tinylib/msgp/msgp"
)

func (packProtocol) BindArguments(raw []byte, dst ...any) error {
	count, rest, err := msgp.ReadArrayHeaderBytes(raw)
	if err != nil {
		return errNoArguments()
	}
	if int64(count) != int64(len(dst)) {
		return wrongCount(int64(count), len(dst))
	}
	if err := checkPack(raw); err != nil {
		return &Error{Kind: kindInvalidData, Detail: textBinding, Err: err}
	}
	for i, target := range dst {
		if rest, err = bindPack(rest, target); err != nil {
			return unbound(i, err)
		}
	}
	return nil
}

func (packProtocol) BindValue(raw []byte, dst any) error {
	err := checkPack(raw)
	if err == nil {
		_, err = bindPack(raw, dst)
	}
	if err != nil {
		return unboundValue(dst, err)
	}
	return nil
}

func errNoArguments() *Error { return invalid("Reading array length for 'arguments' failed.") }

// packElements returns the elements of an array.
func packElements(raw []byte) ([]any, error) {
	count, rest, err := msgp.ReadArrayHeaderBytes(raw)
	if err != nil {
		return nil, errNoArguments()
	}
	if err := checkPack(raw); err != nil {
		return nil, err
	}
	elements := make([]any, 0, count)
	for range count {
		var element []byte
		element, rest = cutPack(rest)
		elements = append(elements, Raw{Protocol: packProtocol{}, Bytes: element})
	}
	return elements, nil
}

// bindPack decodes the first value of b, which has been checked.
func bindPack(b []byte, dst any) (rest []byte, err error) {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, fmt.Errorf("cannot decode into %T", dst)
	}
	return packCodecOf(v.Type().Elem()).read(b, v.Elem(), maxPackDepth)
}
