// Command bento is Bento with what the comparison in cmd/internal/bench needs: files, JSON Schema, Parquet. It is a module of its
// own, so that taster depends on nothing of it; the whole of Bento, with the clients of every service it knows, takes
// many times as long to build and does the same.
package main

import (
	"context"

	"github.com/warpstreamlabs/bento/public/service"

	_ "github.com/warpstreamlabs/bento/public/components/io"
	_ "github.com/warpstreamlabs/bento/public/components/pure"
	_ "github.com/warpstreamlabs/bento/public/components/pure/extended"
)

func main() { service.RunCLI(context.Background()) }
