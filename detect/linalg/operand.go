package linalg

import (
	"errors"
	"sync"
)

// Operand is the right side of products that are asked for again and again.
type Operand interface {
	// Product sets dst to a·bᵀ, b being the operand.
	Product(dst, a Matrix) error
}

// Keep returns b as an operand, which stays on the device of an engine that has one, so that it need not go there with every product; the values
// are those of the engine's own products, or rounded otherwise where a device multiplies what would not be worth the way there without. b may
// not change while it is in use.
func Keep(engine Engine, b Matrix) (Operand, error) {
	if err := b.check("the right matrix"); err != nil {
		return nil, err
	}
	if k, ok := engine.(keeper); ok {
		return k.keep(b)
	}
	return sent{engine, b}, nil
}

// keeper is an engine that can have operands stay.
type keeper interface {
	keep(b Matrix) (Operand, error)
}

// sent goes there with every product.
type sent struct {
	engine Engine
	b      Matrix
}

func (o sent) Product(dst, a Matrix) error { return o.engine.Product(dst, a, o.b) }

// keep has an operand stay on the device if its shape makes it worth the way of what else a product needs: a value of the left side is used once for each row of the operand, and one
// of the product came of a sum over its columns.
func (w worthwhile) keep(b Matrix) (Operand, error) {
	if b.Rows*b.Cols < reuse*(b.Rows+b.Cols) {
		return sent{CPU{}, b}, nil
	}
	return worthyOperand{b, sync.OnceValues(func() (Operand, error) { return Keep(w.device, b) })}, nil
}

type worthyOperand struct {
	b      Matrix
	device func() (Operand, error) // brought there by the first product that is large enough
}

func (o worthyOperand) Product(dst, a Matrix) error {
	if 2*float64(a.Rows)*float64(o.b.Rows)*float64(o.b.Cols) < trip {
		return CPU{}.Product(dst, a, o.b)
	}
	there, err := o.device()
	if err != nil {
		return err
	}
	return there.Product(dst, a)
}

func (r resilient) keep(b Matrix) (Operand, error) {
	o, err := Keep(r.engine, b)
	if errors.Is(err, ErrLost) {
		r.lost(err)
		return sent{CPU{}, b}, nil
	}
	return resilientOperand{o, b, r.lost}, err
}

type resilientOperand struct {
	Operand
	b    Matrix
	lost func(error)
}

func (o resilientOperand) Product(dst, a Matrix) error {
	err := o.Operand.Product(dst, a)
	if errors.Is(err, ErrLost) {
		o.lost(err)
		return CPU{}.Product(dst, a, o.b)
	}
	return err
}
