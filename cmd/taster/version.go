package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Which taster this is",
		Example: "  taster version -o json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readBuild()
			return c.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "taster %s\n", v.Version)
				if v.Revision != "" {
					changed := ""
					if v.Modified {
						changed = ", changed since"
					}
					fmt.Fprintf(w, "revision %s of %s%s\n", v.Revision, v.Time, changed)
				}
				fmt.Fprintf(w, "%s %s\n", v.Go, v.Platform)
			})
		},
	}
}

// version is set by the Makefile through the linker; empty in a binary that was built otherwise.
var version string

// build is what the toolchain wrote into the binary.
type build struct {
	Version  string `json:"version"` // a tag or what git describe makes of it, a pseudo-version, or (devel)
	Revision string `json:"revision"`
	Time     string `json:"time"`     // of the revision
	Modified bool   `json:"modified"` // the working tree was not as the revision says
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	v := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	switch {
	case version != "":
		v.Version = version
	case info.Main.Version != "":
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
