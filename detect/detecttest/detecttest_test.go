package detecttest

import "testing"

func TestPlainDetectors(t *testing.T) {
	t.Run("spread", func(t *testing.T) { Run(t, Spread{}, Clean) })
	t.Run("repeats", func(t *testing.T) { Run(t, Repeats{}, Clean) })
	t.Run("recurrent", func(t *testing.T) {
		Run(t, Recurrent{}, Clean)
		RunMemory(t, Recurrent{}, Clean, recurrences)
	})
}
