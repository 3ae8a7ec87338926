package hub

import (
	"errors"
	"fmt"

	"github.com/heliograph/heliograph/pkg/auth"
)

// A MethodOption adjusts one method of a hub: see [WithMethod].
type MethodOption func(*method) error

// methodOptions are those of one method.
type methodOptions struct {
	method  string
	options []MethodOption
}

// WithMethod adjusts the hub's method of that name, which is the one it has in Go.
func WithMethod(name string, options ...MethodOption) Option {
	return func(c *config) error {
		c.methodOptions = append(c.methodOptions, methodOptions{name, options})
		return nil
	}
}

// Named makes clients invoke the method by another name than its own.
func Named(name string) MethodOption {
	return func(m *method) error {
		if name == "" {
			return errors.New("empty name")
		}
		m.name = name
		return nil
	}
}

// Requires refuses invocations by those who do not meet all of the requirements: they
// get an error that says no more than that. The identity is the one that opened the
// connection.
func Requires(requirements ...auth.Requirement) MethodOption {
	return func(m *method) error {
		m.requires = append(m.requires, requirements...)
		return nil
	}
}

// FilteredBy wraps invocations of the method in a filter, of which only Invoke is of
// use here. Of several, the first is the outermost; those of the hub are outside.
func FilteredBy(f Filter) MethodOption {
	return func(m *method) error {
		if f.Invoke == nil {
			return errors.New("filter of a method without Invoke")
		}
		m.filters = append(m.filters, f)
		return nil
	}
}

// adjust applies the options to the methods that they name, and reports all that
// cannot be met.
func adjust(declared map[string]*method, all []methodOptions) error {
	var wrong []error
	for _, o := range all {
		m := declared[o.method]
		if m == nil {
			wrong = append(wrong, fmt.Errorf("options for method %s, which the hub does not have", o.method))
			continue
		}
		for _, option := range o.options {
			if err := option(m); err != nil {
				wrong = append(wrong, fmt.Errorf("method %s: %w", o.method, err))
			}
		}
	}
	return errors.Join(wrong...)
}
