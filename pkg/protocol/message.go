package protocol

// Type is the number that names a message's kind on the wire (HubProtocol,
// "Message types").
type Type int

// The message types of the specification.
const (
	TypeInvocation       Type = 1
	TypeStreamItem       Type = 2
	TypeCompletion       Type = 3
	TypeStreamInvocation Type = 4
	TypeCancelInvocation Type = 5
	TypePing             Type = 6
	TypeClose            Type = 7
	TypeAck              Type = 8
	TypeSequence         Type = 9
)

// A Message is one of the pointer types of this package: *[Invocation],
// *[StreamInvocation], *[StreamItem], *[Completion], *[CancelInvocation], *[Ping],
// *[Close], *[Ack], *[Sequence] or, only as read, *[Unknown].
type Message interface {
	// Type returns the message's number on the wire.
	Type() Type
}

// Headers are a message's optional key-value pairs. The protocol gives them no
// meaning; unknown ones are to be ignored. Nil and empty are the same.
type Headers map[string]string

// An Invocation asks the other side to call a method. With an InvocationID exactly
// one [Completion] answers it; without, nothing does, not even an error.
type Invocation struct {
	Headers      Headers
	InvocationID string // empty: no answer is wanted
	Target       string // the method; never empty as read

	// Arguments are the values to write. Parse leaves them nil.
	Arguments []any
	// RawArguments is the whole array of arguments as read, a slice of Parse's
	// input, for [Protocol.BindArguments]. It is not written.
	RawArguments []byte

	// StreamIDs name the streams that the caller will upload, in the order of the
	// method's stream parameters.
	StreamIDs []string
}

// A StreamInvocation is an [Invocation] of a method that streams its results:
// any number of [StreamItem] and one [Completion] answer it. Its InvocationID is
// never empty as read.
type StreamInvocation struct{ Invocation }

// A StreamItem is one item of a stream, either way.
type StreamItem struct {
	Headers      Headers
	InvocationID string // of the StreamInvocation, or the stream id of an upload
	Item         any    // to write
	RawItem      []byte // as read, a slice of Parse's input, for [Protocol.BindValue]
}

// A Completion ends an invocation or a stream: with an error, with a result, or
// with neither (the end of a stream).
type Completion struct {
	Headers      Headers
	InvocationID string
	Error        string // HubProtocol, "Completion Message Encoding": excludes a result, which is then not written
	HasResult    bool   // there is a result, which may be null
	Result       any    // to write
	RawResult    []byte // as read, a slice of Parse's input, for [Protocol.BindValue]

	// HasError tells an empty error text from none. To write, a non-empty Error
	// implies it. JSON cannot express an empty one (it is dropped).
	HasError bool
}

// A CancelInvocation asks the other side to stop a stream, or an invocation that
// can be cancelled.
type CancelInvocation struct {
	Headers      Headers
	InvocationID string
}

// A Ping keeps the connection alive; it is not answered.
type Ping struct{}

// A Close ends the connection. From a server, AllowReconnect says that the client
// may try again by itself.
type Close struct {
	Error          string // empty: closed without error
	AllowReconnect bool
}

// An Ack says that every counted message up to SequenceID has been processed.
type Ack struct{ SequenceID int64 }

// A Sequence says, after a reconnect, which number the next counted message has.
type Sequence struct{ SequenceID int64 }

// Unknown is a message of a type that this package does not know. It is to be
// ignored (HubProtocol, "Unknown message types"). It cannot be written.
type Unknown struct{ MessageType Type }

func (*Invocation) Type() Type       { return TypeInvocation }
func (*StreamInvocation) Type() Type { return TypeStreamInvocation }
func (*StreamItem) Type() Type       { return TypeStreamItem }
func (*Completion) Type() Type       { return TypeCompletion }
func (*CancelInvocation) Type() Type { return TypeCancelInvocation }
func (*Ping) Type() Type             { return TypePing }
func (*Close) Type() Type            { return TypeClose }
func (*Ack) Type() Type              { return TypeAck }
func (*Sequence) Type() Type         { return TypeSequence }
func (m *Unknown) Type() Type        { return m.MessageType }
