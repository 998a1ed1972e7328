//go:build race

package drip

// raced says that the race detector is on, under which everything takes many times longer.
const raced = true
