package progress

import (
	"os"
	"strings"
	"testing"
	"time"
)

// A bar waits a second, then shows all that was done, and leaves nothing behind.
func TestPatience(t *testing.T) {
	var out strings.Builder
	now := time.Unix(0, 0)
	bar := newBar(&out, "reading", 100, false, func() time.Time { return now })
	bar.Add(10)
	now = now.Add(patience - 1)
	bar.Add(10)
	if out.Len() > 0 {
		t.Fatalf("drawn too early: %q", out.String())
	}
	now = now.Add(1)
	bar.Add(10)
	if !strings.Contains(out.String(), "reading") || !strings.Contains(out.String(), "30/100") {
		t.Errorf("drawn: %q", out.String())
	}
	bar.Finish()
	if bar.bar != nil {
		t.Error("the bar is still there")
	}
	bar.Finish()
}

// A script sees no bar.
func TestNoTerminal(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	bar := Records(file, "reading", 1)
	if bar != nil {
		t.Fatal("a file got a bar")
	}
	bar.Add(1)
	bar.Finish()
	if Bytes(&strings.Builder{}, "reading", 1) != nil {
		t.Error("a buffer got a bar")
	}
}
