package validate

// instructions are what the pass does with vector instructions. Each may be nil: there is portable code for all of it,
// which is what they are tested against.
type instructions struct {
	name string

	// plain copies string text as far as no byte is special, and returns how far that is. It reads and writes up to 64
	// bytes more.
	plain func(to, from *byte) int

	// float32s and float64s read groups of four numbers, each a digit, a point and a few digits more, and followed by a
	// comma; the second of each, by a comma and a space. They return how many groups there were, and their bytes.
	float32s [2]func(to *float32, from *byte, groups int) (read, size int)
	float64s [2]func(to *float64, from *byte, groups int) (read, size int)
}

// levels are those that this processor has, the best one last.
var levels = []*instructions{{name: "portable"}}
