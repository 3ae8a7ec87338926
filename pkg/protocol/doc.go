// Package protocol reads and writes the messages of the SignalR hub protocol, in
// both of its encodings, for either side of a connection.
//
// It is pure: bytes in, messages out. It does no I/O, starts no goroutine and keeps
// no state between calls, so everything in it may be used concurrently.
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
// invocation fails.
//
// # Value mapping
//
// Struct fields take their names from json tags, in both encodings ("omitempty",
// "omitzero" and "-" included); reading JSON ignores case, reading MessagePack does
// not. Integers are read strictly: no fraction, no string, nothing out of range.
// A null is refused for numbers, booleans and times, and is the zero value of
// everything else. In MessagePack, []byte is bin, time.Time is the timestamp
// extension, and a type with MarshalText is the string that it makes. A [Raw]
// passes a value on as it came.
package protocol
