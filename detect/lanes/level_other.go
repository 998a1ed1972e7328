//go:build !amd64

package lanes

const available = false

const absent = "lanes: this processor has none"

func plain(*byte, int) int { panic(absent) }

func cutTokens(*byte, int, *byte, *uint32, *uint32) int { panic(absent) }

func hashTokens(*byte, *uint32, *uint32, int, *uint32) { panic(absent) }

func fold(*byte, int, *byte) { panic(absent) }

func costs(*byte, int, *byte, *byte, *byte, int, int, *uint32) { panic(absent) }

func bins(*byte, *float64, *[8]float64, int) { panic(absent) }

func exps(*float64, *float64, int) { panic(absent) }

func logs(*float64, *float64, int) { panic(absent) }
