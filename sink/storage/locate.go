package storage

import "path/filepath"

// Locate returns where an object of the landing zone at rawURL is for other programs: an absolute path on file, else a
// URL without parameters, SCHEME://BUCKET/NAME. Nothing is opened.
func Locate(rawURL, name string) (string, error) {
	at, err := parseURL(rawURL)
	if err != nil {
		return "", err
	}
	if at.scheme == "file" {
		return filepath.Join(at.path, filepath.FromSlash(name)), nil
	}
	folder, err := at.folder()
	return at.scheme + "://" + at.bucket + "/" + folder + name, err
}
