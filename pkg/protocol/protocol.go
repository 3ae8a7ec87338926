package protocol

import "strings"

// MaxVersion is the highest protocol version that both encodings speak (HubProtocol,
// "Versions"): 2 adds Ack and Sequence to 1 and changes nothing else.
const MaxVersion = 2

// TransferFormat says what a transport must be able to carry.
type TransferFormat int

const (
	Text   TransferFormat = iota // UTF-8 text
	Binary                       // any bytes
)

// String returns the format's name in a negotiate response.
func (f TransferFormat) String() string {
	if f == Binary {
		return "Binary"
	}
	return "Text"
}

// A Protocol is one encoding of the hub protocol. [JSON] and [MessagePack] are the
// two that there are. Its methods keep nothing between calls and may be called
// concurrently.
type Protocol interface {
	// Name is what the handshake calls the protocol.
	Name() string

	// TransferFormat is what its frames need of a transport.
	TransferFormat() TransferFormat

	// Append appends the frame of m to dst. Values may be of any Go type with an
	// encoding, or a [Raw] of either protocol. On an error dst comes back as it was;
	// the error is that of a value that cannot be encoded and says which, or that of
	// a message that cannot be written at all.
	Append(dst []byte, m Message) ([]byte, error)

	// Parse reads the first frame of data and says how many bytes it takes. The raw
	// values of the message are slices of data; everything else is copied.
	//
	// It returns [ErrIncomplete] if data ends before the frame does, and an
	// [*Error] if what data begins with is no message, or if no frame ends within
	// the first limit bytes and data is longer than that. A limit of 0 is none.
	Parse(data []byte, limit int) (m Message, n int, err error)

	// BindArguments decodes the array raw into dst, which are non-nil pointers to
	// zero values. As many elements as pointers must be there. Nothing in dst refers
	// to raw afterwards. Errors are [*Error]; after one, some of dst may be set.
	BindArguments(raw []byte, dst ...any) error

	// BindValue decodes the single value raw into dst, a non-nil pointer, under the
	// rules of BindArguments.
	BindValue(raw []byte, dst any) error
}

// The two encodings.
var (
	JSON        Protocol = jsonProtocol{}
	MessagePack Protocol = packProtocol{}
)

// ByName returns the protocol of that name, ignoring case, or nil.
func ByName(name string) Protocol {
	for _, p := range []Protocol{JSON, MessagePack} {
		if strings.EqualFold(p.Name(), name) {
			return p
		}
	}
	return nil
}
