package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// negotiation is the server's answer (TransportProtocols,
// "POST [endpoint-base]/negotiate").
type negotiation struct {
	Error           string
	URL             string
	ConnectionToken string
}

// maxNegotiation bounds the answer, in bytes.
const maxNegotiation = 64 << 10

// negotiated asks for a connection and returns the token to open it with.
func (d *dialer) negotiated(ctx context.Context, hub *url.URL) (connectionToken string, err error) {
	address := *hub
	address.Path = strings.TrimSuffix(address.Path, "/") + "/negotiate"
	query := address.Query()
	query.Set("negotiateVersion", "1")
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), nil)
	if err != nil {
		return "", err
	}
	request.Header = d.header()
	response, err := d.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", answered(response)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxNegotiation))
	if err != nil {
		return "", err
	}
	var n negotiation
	switch err := json.Unmarshal(body, &n); {
	case err != nil:
		return "", fmt.Errorf("read the answer: %w", err)
	case n.Error != "":
		return "", errors.New(n.Error)
	case n.URL != "":
		return "", errors.New("the server redirects to another: give that one's address")
	case n.ConnectionToken == "":
		return "", errors.New("the answer has no connectionToken")
	}
	return n.ConnectionToken, nil
}
