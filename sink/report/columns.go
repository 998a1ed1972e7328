package report

import (
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/tasterhq/taster/schema/finding"
)

func column(rows arrow.RecordBatch, name string) (arrow.Array, error) {
	at := rows.Schema().FieldIndices(name)
	if len(at) != 1 {
		return nil, fmt.Errorf("the file has no column %s", name)
	}
	return rows.Column(at[0]), nil
}

func texts(rows arrow.RecordBatch, name string) (func(int) string, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	return func(i int) string { return textOf(c, i) }, nil
}

// textOf returns a value as text, "" for null.
func textOf(c arrow.Array, i int) string {
	if c.IsNull(i) {
		return ""
	}
	return c.ValueStr(i)
}

func numbers(rows arrow.RecordBatch, name string) (func(int) float64, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	return numbersOf(c, name)
}

// numbersOf gives the values of an array of doubles; null is NaN.
func numbersOf(c arrow.Array, name string) (func(int) float64, error) {
	values, ok := c.(*array.Float64)
	if !ok {
		return nil, fmt.Errorf("column %s does not hold doubles", name)
	}
	return func(i int) float64 {
		if values.IsNull(i) {
			return math.NaN()
		}
		return values.Value(i)
	}, nil
}

func integers(rows arrow.RecordBatch, name string) (func(int) int64, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	switch c := c.(type) {
	case *array.Int64:
		return c.Value, nil
	case *array.Int32:
		return func(i int) int64 { return int64(c.Value(i)) }, nil
	}
	return nil, fmt.Errorf("column %s does not hold integers", name)
}

// finite makes a number one that JSON has: what is no number becomes 0, what is infinite the largest there is. One odd
// row must not keep a whole report from being written.
func finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return min(max(f, -math.MaxFloat64), math.MaxFloat64)
}

func lists(rows arrow.RecordBatch, name string) (func(int) []string, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	list, ok := c.(array.ListLike)
	if !ok {
		return nil, fmt.Errorf("column %s is not a list", name)
	}
	return func(i int) []string {
		values := []string{}
		if !list.IsNull(i) {
			for from, to := list.ValueOffsets(i); from < to; from++ {
				values = append(values, list.ListValues().ValueStr(int(from)))
			}
		}
		return values
	}, nil
}

func findings(rows arrow.RecordBatch, name string) (func(int) []finding.Finding, error) {
	c, err := column(rows, name)
	if err != nil {
		return nil, err
	}
	list, ok := c.(array.ListLike)
	if !ok {
		return nil, fmt.Errorf("column %s is not a list", name)
	}
	values, ok := list.ListValues().(*array.Struct)
	if !ok {
		return nil, fmt.Errorf("column %s is not a list of structs", name)
	}
	member := func(name string) arrow.Array {
		at, ok := values.DataType().(*arrow.StructType).FieldIdx(name)
		if !ok {
			return nil
		}
		return values.Field(at)
	}
	detector, evidence := member("detector"), member("evidence")
	if detector == nil || evidence == nil {
		return nil, fmt.Errorf("column %s holds no findings", name)
	}
	var figures [3]func(int) float64
	for i, figure := range []string{"score", "p_value", "threshold"} {
		if figures[i], err = numbersOf(member(figure), name); err != nil {
			return nil, err
		}
	}
	return func(i int) []finding.Finding {
		found := []finding.Finding{}
		if list.IsNull(i) {
			return found
		}
		for from, to := list.ValueOffsets(i); from < to; from++ {
			at := int(from)
			found = append(found, finding.Finding{
				Detector: textOf(detector, at), Score: finite(figures[0](at)), PValue: finite(figures[1](at)), Threshold: finite(figures[2](at)), Evidence: textOf(evidence, at),
			})
		}
		return found
	}, nil
}
