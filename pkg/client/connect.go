package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// connect opens a connection, unless the context ends first.
func (c *Client) connect(ctx context.Context) (*connection, error) {
	e, err := step(ctx, c.handshakeTimeout, "negotiate", c.negotiate)
	if err != nil {
		return nil, err
	}
	socket, err := step(ctx, c.handshakeTimeout, "open WebSocket", func(ctx context.Context) (*webSocket, error) {
		return openWebSocket(ctx, c.dialer, e.webSocketAddress(), e.header, c.serverTimeout)
	})
	if err != nil {
		return nil, err
	}
	unread, err := step(ctx, c.handshakeTimeout, "handshake", func(ctx context.Context) ([]byte, error) {
		return c.shake(ctx, socket)
	})
	if err != nil {
		socket.abort()
		return nil, err
	}
	conn := &connection{
		client:   c,
		socket:   socket,
		id:       e.connectionID,
		unread:   unread,
		outgoing: make(chan []byte, outgoingFrames),
		calls:    make(map[string]*call),
	}
	conn.ctx, conn.cancel = context.WithCancelCause(context.Background())
	return conn, nil
}

// step does a part of connecting, within the time-out.
func step[T any](ctx context.Context, timeout time.Duration, what string, do func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, err := do(limited)
	switch {
	case err == nil:
		return result, nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case limited.Err() != nil:
		err = fmt.Errorf("no answer within %v: %w", timeout, limited.Err())
	}
	return result, fmt.Errorf("%s: %w", what, err)
}

// shake does the handshake (HubProtocol, "Overview"). It returns what came behind it.
func (c *Client) shake(ctx context.Context, socket *webSocket) (unread []byte, err error) {
	stop := context.AfterFunc(ctx, socket.abort)
	defer stop()
	// Version 2 is for clients that can reconnect statefully, and else the same.
	request := protocol.HandshakeRequest{Protocol: c.protocol.Name(), Version: 1}
	if err := socket.write(protocol.Text, protocol.AppendHandshakeRequest(nil, request)); err != nil {
		return nil, err
	}
	for {
		if unread, _, err = socket.read(unread); err != nil {
			return nil, err
		}
		refusal, n, err := protocol.ParseHandshakeResponse(unread, c.maxMessage)
		switch {
		case errors.Is(err, protocol.ErrIncomplete):
			continue
		case err != nil:
			return nil, err
		case refusal != "":
			return nil, &Error{Message: refusal}
		case !stop():
			return nil, ctx.Err()
		}
		return unread[n:], nil
	}
}
