package validate

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// wellFormed checks what every consumer of a column relies on.
func wellFormed(c arrow.Array) error {
	if v, ok := c.(interface{ ValidateFull() error }); ok {
		if err := v.ValidateFull(); err != nil {
			return err
		}
	}
	nulls := 0
	for i := range c.Len() {
		if c.IsNull(i) {
			nulls++
		}
	}
	if nulls != c.NullN() {
		return fmt.Errorf("%d nulls and NullN %d", nulls, c.NullN())
	}
	switch c := c.(type) {
	case *array.Struct:
		for k := range c.NumField() {
			child := c.Field(k)
			if child.Len() != c.Len() {
				return fmt.Errorf("a struct of %d rows with a child of %d", c.Len(), child.Len())
			}
			field := c.DataType().(*arrow.StructType).Field(k)
			if !field.Nullable && child.NullN() > 0 {
				return fmt.Errorf("%s: nulls where none may be", field.Name)
			}
			for i := range c.Len() {
				if c.IsNull(i) && child.IsValid(i) {
					return fmt.Errorf("%s: valid in a null struct", field.Name)
				}
			}
			if err := wellFormed(child); err != nil {
				return fmt.Errorf("%s: %w", field.Name, err)
			}
		}
	case *array.List:
		offsets := c.Offsets()
		if len(offsets) != c.Len()+1 || offsets[0] != 0 || int(offsets[c.Len()]) != c.ListValues().Len() {
			return fmt.Errorf("a list of %d rows over %d values has offsets %v", c.Len(), c.ListValues().Len(), offsets)
		}
		elem := c.DataType().(*arrow.ListType).ElemField()
		if !elem.Nullable && c.ListValues().NullN() > 0 {
			return fmt.Errorf("null items where none may be")
		}
		return wellFormed(c.ListValues())
	}
	return nil
}
