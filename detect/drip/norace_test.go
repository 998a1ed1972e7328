//go:build !race

package drip

const raced = false
