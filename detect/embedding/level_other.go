//go:build !amd64

package embedding

const available = false

const absent = "embedding: this processor has no lanes"

func cutText(*byte, int, *byte, *byte, *uint32, *uint32) (int, int) { panic(absent) }

func addTrigrams(*byte, int, *float32, *float32) { panic(absent) }

func addWords(*byte, *uint32, *uint32, int, *float32, *float32) bool { panic(absent) }
