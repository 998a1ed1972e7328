package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/finding"
)

// moment is a flag for a point in time: RFC 3339, or a day, which begins at 00:00 UTC.
type moment struct{ time.Time }

func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339Nano)
}
func (m *moment) Type() string { return "time" }
func (m *moment) Set(text string) (err error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if m.Time, err = time.Parse(layout, text); err == nil {
			return nil
		}
	}
	return errors.New("want a time such as 2026-01-31T12:00:00Z, or a day such as 2026-01-31")
}

// byteSize is a flag for a number of bytes, as configurations write it.
type byteSize int64

func (b *byteSize) String() string { return strict.FormatSize(int64(*b)) }
func (b *byteSize) Type() string   { return "size" }
func (b *byteSize) Set(text string) error {
	unit := int64(1)
	for suffix, size := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = number, size
		}
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(text, "B"), 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/unit {
		return errors.New("want a size such as 512B, 64KiB, 128MiB or 1GiB")
	}
	*b = byteSize(n * unit)
	return nil
}

// verdicts is a flag that may be repeated, or hold several with commas.
type verdicts []finding.Verdict

func (v *verdicts) String() string {
	names := make([]string, len(*v))
	for i, one := range *v {
		names[i] = one.String()
	}
	return strings.Join(names, ",")
}
func (v *verdicts) Type() string { return "verdict" }
func (v *verdicts) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		var one finding.Verdict
		if err := one.UnmarshalText([]byte(name)); err != nil {
			return err
		}
		*v = append(*v, one)
	}
	return nil
}

// offsets is a flag for one offset, or for those from one on and before another.
type offsets struct{ first, next int64 }

func (o *offsets) String() string {
	switch {
	case o.first == 0 && o.next == 0:
		return ""
	case o.next == 0:
		return fmt.Sprintf("%d:", o.first)
	}
	return fmt.Sprintf("%d:%d", o.first, o.next)
}
func (o *offsets) Type() string { return "offset" }
func (o *offsets) Set(text string) error {
	from, to, isRange := strings.Cut(text, ":")
	var err error
	number := func(text string, missing int64) int64 {
		if text == "" && isRange {
			return missing
		}
		n, bad := strconv.ParseInt(text, 10, 64)
		if bad != nil || n < 0 {
			err = errors.New("want an offset such as 42, or offsets such as 42:50, 42: or :50")
		}
		return n
	}
	o.first = number(from, 0)
	if o.next = o.first + 1; isRange {
		o.next = number(to, 0)
	}
	if err == nil && isRange && to != "" && o.next <= o.first {
		err = errors.New("the offsets are none: the second number is the first offset too high")
	}
	return err
}
