package protocol

// sizeHint guesses how many bytes the frame of m takes, so that most are allocated
// once.
func sizeHint(m Message) int {
	const envelope, value = 64, 16
	switch m := m.(type) {
	case *Invocation:
		size := envelope + len(m.Target)
		for _, argument := range m.Arguments {
			size += value + valueSizeHint(argument)
		}
		return size
	case *StreamInvocation:
		return sizeHint(&m.Invocation)
	case *StreamItem:
		return envelope + valueSizeHint(m.Item)
	case *Completion:
		return envelope + len(m.Error) + valueSizeHint(m.Result)
	case *Close:
		return envelope + len(m.Error)
	}
	return envelope
}

func valueSizeHint(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	case Raw:
		return len(v.Bytes)
	}
	return 0
}
