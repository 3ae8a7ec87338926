// Package protocol reads and writes the messages of the SignalR hub protocol, in
// both of its encodings, for either side of a connection.
//
// It is pure: bytes in, messages out. It does no I/O, starts no goroutine and keeps
// no state between calls but what it has learned about Go types, so everything in it
// may be used concurrently.
//
// A connection begins with a handshake, which is JSON whatever follows
// ([ParseHandshakeRequest], [AppendHandshakeResponse]). From then on both sides
// exchange frames of the [Protocol] that the handshake named: [JSON] or
// [MessagePack]. Frames are a matter of the byte stream, not of the transport's
// messages: [Protocol.Parse] reads the first frame of whatever has arrived so far
// and says [ErrIncomplete] until there is a whole one.
//
// What a message carries for the application (arguments, results, stream items) is
// not decoded while parsing, since only the receiver knows the types that it wants.
// It stays a slice of the input until [Protocol.BindArguments] or
// [Protocol.BindValue] decodes it straight into Go values. To be written, such
// values are given as they are; see "Value mapping" below.
//
// # Errors
//
// Two kinds of trouble are told apart, as the specification does. A frame that is
// not a message is an [*Error] from Parse: the connection cannot go on. Arguments
// that do not fit the method are an [*Error] from a Bind method: only that
// invocation fails. In MessagePack that includes arguments, items and results that
// are not even well-formed, since the frame's length says where it ends.
//
// # Limits
//
// A message in JSON may have 64 arrays and objects open at once. A value in
// MessagePack may be nested to any depth as long as it is not decoded, and to 500
// levels to be. Memory is taken in proportion to the bytes that have arrived,
// whatever lengths they declare. How large a frame may be is for the caller to say.
//
// # Value mapping
//
// Struct fields take their names from json tags, in both encodings ("omitempty",
// "omitzero" and "-" included, "string" in JSON only), and so do embedded structs;
// reading JSON ignores the case of names, reading MessagePack does not. Unknown names
// are skipped. A type with MarshalJSON and UnmarshalJSON is that JSON, in MessagePack
// as the section "Translation" says; one with MarshalText and UnmarshalText is that
// string.
//
// Integers are read strictly: no fraction, no string, nothing out of range. Floats may
// be read from integers. A null is refused where a number, a boolean or a time is
// wanted, at any depth, and is the zero value of everything else. Strings are UTF-8:
// what is not becomes U+FFFD, in both directions, except that a frame of JSON that is
// not UTF-8 is no message.
//
//   - []byte is a base64 string in JSON. In MessagePack it is bin, and may be read
//     from str.
//   - time.Time is an RFC 3339 string in JSON, and the timestamp extension in
//     MessagePack, from which it comes in UTC.
//   - A map's keys are strings, integers or types with a text. Integer keys are
//     integers in MessagePack, and may be read from strings.
//   - An any takes nil, bool, string, []any and map[string]any. Numbers become
//     float64 in JSON. In MessagePack integers become int64, or uint64 beyond its
//     range; bin becomes []byte, a timestamp time.Time, and keys that are not strings
//     the strings that they would be in JSON.
//   - Integers and lengths are written in MessagePack's shortest form, floats by the
//     size of their type.
//
// # Translation
//
// A [Raw] passes a value on as it came. Where it came in the other encoding it is
// translated, without knowledge of the types that its sender and its receiver have:
//
//   - From MessagePack to JSON, bin becomes a string of standard base64, a timestamp
//     an RFC 3339 string in UTC, and keys that are not strings their text. Other
//     extensions, NaN, infinities, and keys that are nil, bin or nested have no
//     translation.
//   - From JSON to MessagePack, a number becomes an integer if it is written as one
//     and fits 64 bits, and else a float64. Strings stay strings.
//   - More than 62 levels of nesting have no translation: a message in JSON could not
//     hold them.
package protocol
