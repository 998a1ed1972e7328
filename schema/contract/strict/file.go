package strict

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/tasterhq/taster/schema/validate"
)

// ReadFile reads a file that Parse is to read, and no more than it would take.
func ReadFile(path string) ([]byte, *validate.Fault) {
	fault := func(code, detail string) *validate.Fault {
		return &validate.Fault{File: path, Code: code, Detail: detail}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault(FileMissing, "cannot be read: "+Reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fault(FileMissing, "cannot be read: "+Reason(err))
	}
	if len(data) > MaxFile {
		return nil, fault(FileTooLarge, fmt.Sprintf("the file has more than %d bytes", MaxFile))
	}
	return data, nil
}

// CheckFile says why a file cannot be read; "" when it can.
func CheckFile(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return Reason(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return "it is a folder"
	}
	return ""
}

// Reason is an error of the file system without the path, for messages that name it already.
func Reason(err error) string {
	var path *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}

// Sorted orders faults for a person: those of file first, then the other files', each by line. Faults of one line
// keep their order.
func Sorted(file string, faults []validate.Fault) []validate.Fault {
	slices.SortStableFunc(faults, func(a, b validate.Fault) int {
		switch {
		case a.File == b.File:
			return a.Line - b.Line
		case a.File == file:
			return -1
		case b.File == file:
			return 1
		case a.File < b.File:
			return -1
		}
		return 1
	})
	return faults
}
