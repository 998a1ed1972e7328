// Package border gives tests memory that ends where nobody may read or write on: assembly that leaves what it was given dies there, on Linux.
package border
