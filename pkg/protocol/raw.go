package protocol

import (
	"bytes"
	"fmt"
)

// Raw is one encoded value. As an argument, result or item to write, or anywhere
// within one, it is passed on as it is where the protocol is the same and translated
// where it is not (see the package's "Translation"). As a target of a Bind method, or
// within one, it takes a copy of whatever came. The zero Raw is null, and a nil
// Protocol with bytes is an error.
//
// Malformed bytes are an error on writing, so that they cannot damage a frame.
type Raw struct {
	Protocol Protocol
	Bytes    []byte
}

// MarshalJSON returns the value as JSON.
func (r Raw) MarshalJSON() ([]byte, error) { return appendRawJSON(nil, r) }

// UnmarshalJSON takes a copy of data.
func (r *Raw) UnmarshalJSON(data []byte) error {
	*r = Raw{Protocol: jsonProtocol{}, Bytes: bytes.Clone(data)}
	return nil
}

// Elements returns the elements of an encoded array, each as a [Raw] that refers to
// array's bytes: such as the arguments of an [Invocation] to pass on. It is an error
// if array is anything else, or malformed.
func Elements(array Raw) ([]any, error) {
	switch array.Protocol.(type) {
	case jsonProtocol:
		return jsonElements(array.Bytes)
	case packProtocol:
		return packElements(array.Bytes)
	}
	return nil, errUnknownRaw(array)
}

func errUnknownRaw(r Raw) error {
	return fmt.Errorf("raw value of unknown protocol %T", r.Protocol)
}
