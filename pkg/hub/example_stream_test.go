package hub_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/hub"
)

// Weather is a hub that streams.
type Weather struct{}

// Countdown returns a stream of values.
func (Weather) Countdown(_ context.Context, _ *hub.Caller, from int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for n := from; n > 0 && yield(n); n-- {
		}
	}
}

// Forecast returns a stream that may fail.
func (Weather) Forecast(_ context.Context, _ *hub.Caller, days int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for day := range days {
			if day == 2 {
				yield("", &hub.Error{Message: "nobody knows"})
				return
			}
			if !yield("rain", nil) {
				return
			}
		}
	}
}

// Gusts returns a channel. Whoever sends on it stops when the context ends.
func (Weather) Gusts(ctx context.Context, _ *hub.Caller) <-chan float64 {
	gusts := make(chan float64)
	go func() {
		defer close(gusts)
		for _, speed := range []float64{3.5, 7} {
			select {
			case gusts <- speed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return gusts
}

// Mean takes a stream from the client, beside a plain argument.
func (Weather) Mean(_ context.Context, _ *hub.Caller, unit string, readings iter.Seq2[float64, error]) (string, error) {
	sum, n := 0.0, 0.0
	for reading, err := range readings {
		if err != nil { // the client ended the stream with an error, or is gone
			return "", err
		}
		sum, n = sum+reading, n+1
	}
	return fmt.Sprint(sum/n, " ", unit), nil
}

// Fahrenheit streams both ways.
func (Weather) Fahrenheit(_ context.Context, _ *hub.Caller, readings iter.Seq2[float64, error]) iter.Seq2[float64, error] {
	return func(yield func(float64, error) bool) {
		for celsius, err := range readings {
			if !yield(celsius*9/5+32, err) || err != nil {
				return
			}
		}
	}
}

// A method streams by returning a sequence, a sequence with errors, or a channel. The
// next item is taken when there is room for it on its way to the client.
func Example_streams() {
	n := serve(Weather{})
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	for number, err := range client.Stream[int](ctx, ada.Client, "Countdown", 1_000_000) {
		fmt.Println(number, err)
		break // cancels the stream
	}
	for day, err := range client.Stream[string](ctx, ada.Client, "Forecast", 7) {
		if err != nil {
			report("forecast", err)
			break
		}
		fmt.Println(day)
	}
	for speed, err := range client.Stream[float64](ctx, ada.Client, "Gusts") {
		fmt.Println(speed, err)
	}
	// Output:
	// 1000000 <nil>
	// rain
	// rain
	// forecast: An error occurred on the server while streaming results. HubException: nobody knows
	// 3.5 <nil>
	// 7 <nil>
}

// A parameter that is an iter.Seq2[T, error] is a stream from the client.
func Example_uploads() {
	n := serve(Weather{})
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	mean, err := client.Invoke[string](ctx, ada.Client, "Mean", "°C", slices.Values([]float64{20, 21, 25}))
	fmt.Println(mean, err)

	failing := func(yield func(float64, error) bool) { yield(0, errors.New("sensor broken")) }
	_, err = client.Invoke[string](ctx, ada.Client, "Mean", "°C", iter.Seq2[float64, error](failing))
	report("mean", err)

	for reading, err := range client.Stream[float64](ctx, ada.Client, "Fahrenheit", slices.Values([]float64{0, 100})) {
		fmt.Println(reading, err)
	}
	// Output:
	// 22 °C <nil>
	// mean: An unexpected error occurred invoking 'Mean' on the server. HubException: sensor broken
	// 32 <nil>
	// 212 <nil>
}

// Patient is a hub with a method that takes its time.
type Patient struct{ began, ended chan struct{} }

// Wait waits until nobody wants it to any more.
func (p Patient) Wait(ctx context.Context, _ *hub.Caller) error {
	p.began <- struct{}{}
	<-ctx.Done()
	close(p.ended)
	return ctx.Err()
}

// The context of a method ends when the client cancels the invocation or is gone.
func Example_cancellation() {
	p := Patient{began: make(chan struct{}), ended: make(chan struct{})}
	n := serve(p)
	defer n.close()
	ada := n.connect("ada")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-p.began
		cancel()
	}()
	err := ada.Invoke(ctx, "Wait")
	<-p.ended
	fmt.Println(errors.Is(err, context.Canceled))
	// Output: true
}
