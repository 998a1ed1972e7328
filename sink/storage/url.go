package storage

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// location is a URL taken apart.
type location struct {
	scheme  string // file, s3, azblob, gs
	bucket  string
	path    string // on file the folder, absolute; else what all names begin with, or the name of one object
	query   url.Values
	timeout time.Duration

	viaQuery bool // path was given as prefix=…
}

// defaultTimeout is how long one small request may take, its repetitions included.
const defaultTimeout = 30 * time.Second

// What the drivers understand of a URL's query; prefix and timeout are understood for all of them.
var parameters = map[string][]string{
	"s3": {"region", "endpoint", "use_path_style", "profile", "role", "anonymous", "dualstack", "fips", "accelerate", "ssetype", "kmskeyid",
		"hostname_immutable", "disable_https", "request_checksum_calculation", "response_checksum_validation"},
	"azblob": {"storage_account", "domain", "protocol", "localemu", "cdn"},
	"gs":     {"endpoint", "anonymous", "universe_domain"},
}

// parseURL takes the URL of a landing zone or of an input:
//
//	file:///absolute/path      and a plain path, which is how people name a folder
//	s3://BUCKET/PREFIX?region=…&endpoint=…&use_path_style=true
//	azblob://CONTAINER/PREFIX?storage_account=…
//	gs://BUCKET/PREFIX
//
// The prefix may also be given as prefix=… in the query. timeout=… says how long a small request may take.
func parseURL(raw string) (location, error) {
	if raw == "" {
		return location{}, fmt.Errorf("%w: no URL is given", ErrUnusable)
	}
	if !strings.Contains(raw, "://") {
		path, err := filepath.Abs(raw)
		return location{scheme: "file", path: path}, err
	}
	u, err := url.Parse(raw)
	if err != nil {
		return location{}, fmt.Errorf("%w: %q is not a URL", ErrUnusable, raw)
	}
	at := location{scheme: u.Scheme, bucket: u.Host, path: u.Path, timeout: defaultTimeout}
	known, bucket := parameters[u.Scheme]
	switch {
	case u.Scheme == "file":
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
			return location{}, fmt.Errorf("%w: %q must be file:///absolute/path, with three slashes", ErrUnusable, raw)
		}
		return at, nil
	case !bucket:
		return location{}, fmt.Errorf("%w: no support for %s:// (want file:///absolute/path, s3://bucket, azblob://container or gs://bucket)", ErrUnusable, u.Scheme)
	case u.User != nil:
		return location{}, fmt.Errorf("%w: a %s:// URL holds no credentials, they are taken from the environment", ErrUnusable, u.Scheme)
	case u.Host == "":
		return location{}, fmt.Errorf("%w: %q names no bucket (want %s://bucket/prefix)", ErrUnusable, raw, u.Scheme)
	}
	if at.query, err = url.ParseQuery(u.RawQuery); err != nil {
		return location{}, fmt.Errorf("%w: what follows ? in %q is not a query", ErrUnusable, raw)
	}
	at.path = strings.TrimPrefix(at.path, "/")
	for name, values := range at.query {
		switch {
		case len(values) != 1:
			return location{}, fmt.Errorf("%w: %s stands twice in %q", ErrUnusable, name, raw)
		case name == "prefix":
			if at.path != "" {
				return location{}, fmt.Errorf("%w: %q has a prefix in its path and another in its query", ErrUnusable, raw)
			}
			at.path, at.viaQuery = values[0], true
		case name == "timeout":
			if at.timeout, err = time.ParseDuration(values[0]); err != nil || at.timeout <= 0 {
				return location{}, fmt.Errorf("%w: timeout=%s in %q is not a duration like 30s", ErrUnusable, values[0], raw)
			}
		case !slices.Contains(known, name):
			return location{}, fmt.Errorf("%w: %s:// URLs have no %s (want %s, prefix, timeout)", ErrUnusable, u.Scheme, name, strings.Join(known, ", "))
		}
	}
	at.query.Del("prefix")
	at.query.Del("timeout")
	return at, nil
}

// folder returns the prefix that all names of a landing zone have, "" or with a slash at its end.
func (at location) folder() (string, error) {
	prefix := strings.Trim(at.path, "/")
	if prefix == "" {
		return "", nil
	}
	if err := checkName(prefix); err != nil {
		return "", fmt.Errorf("%w: the prefix %w", ErrUnusable, err)
	}
	return prefix + "/", nil
}

// bucketURL returns what the provider's opener is to see.
func (at location) bucketURL() *url.URL {
	return &url.URL{Scheme: at.scheme, Host: at.bucket, RawQuery: at.query.Encode()}
}
