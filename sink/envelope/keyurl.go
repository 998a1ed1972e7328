package envelope

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// KeyURL is the URL of a master key in a key service, taken apart: SCHEME://KEY?PARAMETERS.
type KeyURL struct {
	Scheme string
	Key    string     // as the service names it: what stands between :// and ?, without a leading slash
	Params url.Values // those of the scheme only, each with one value
}

// Schemes lists the schemes of key services.
var Schemes = []string{"awskms", "azurekeyvault", "gcpkms", "hashivault"}

// params lists what may stand behind the ? by scheme. What an id keeps is needed to find the key from anywhere; the
// rest says how this machine gets there.
var params = map[string]struct{ kept, local []string }{
	"awskms":        {kept: []string{"region"}, local: []string{"endpoint", "profile"}},
	"azurekeyvault": {},
	"gcpkms":        {local: []string{"endpoint"}},
	"hashivault":    {kept: []string{"engine", "namespace"}},
}

// ParseKeyURL takes the URL of a key in a key service apart. Errors do not quote it, as it may come from the
// environment. Nothing is asked of the service.
//
//	awskms://KEYID, awskms://alias/NAME, awskms:///ARN    ?region=…&endpoint=…&profile=…
//	azurekeyvault://VAULT-HOST/keys/NAME                  also with /VERSION
//	gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K   ?endpoint=…
//	hashivault://NAME                                     ?engine=…&namespace=…
func ParseKeyURL(text string) (KeyURL, error) {
	fail := func(format string, args ...any) (KeyURL, error) { return KeyURL{}, fmt.Errorf(format, args...) }
	scheme, rest, _ := strings.Cut(text, "://")
	allowed, known := params[scheme]
	if !known {
		return fail("unknown scheme; want keyfile, %s", strings.Join(Schemes, ", "))
	}
	if strings.Contains(rest, "#") {
		return fail("nothing stands behind #: taster puts the zone there itself")
	}
	key, query, _ := strings.Cut(rest, "?")
	u := KeyURL{Scheme: scheme, Key: strings.TrimPrefix(key, "/")}
	if u.Key == "" || u.Key[0] == '/' || strings.ContainsFunc(u.Key, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fail("no key is named behind %s://", scheme)
	}
	var err error
	if u.Params, err = url.ParseQuery(query); err != nil {
		return fail("what stands behind ? is not NAME=VALUE&…")
	}
	for name, values := range u.Params {
		if !slices.Contains(allowed.kept, name) && !slices.Contains(allowed.local, name) {
			return fail("unknown parameter behind ?; %s takes %s", scheme, orNone(slices.Concat(allowed.kept, allowed.local)))
		}
		if len(values) != 1 || values[0] == "" {
			return fail("%s needs one value", name)
		}
	}
	return u, u.check()
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// check looks at the form of a key's name, so that a slip is told before a key service refuses it.
func (u KeyURL) check() error {
	if endpoint := u.Params.Get("endpoint"); endpoint != "" {
		e, err := url.Parse(endpoint)
		if err != nil || e.Host == "" || e.Scheme != "https" && e.Scheme != "http" {
			return fmt.Errorf("endpoint is not a URL: want https://HOST:PORT")
		}
		if host := e.Hostname(); e.Scheme == "http" && host != "127.0.0.1" && host != "::1" && host != "localhost" {
			return fmt.Errorf("endpoint: http:// would carry keys in clear; use https://")
		}
	}
	at := strings.Split(u.Key, "/")
	switch u.Scheme {
	case "azurekeyvault":
		if len(at) < 3 || len(at) > 4 || !strings.Contains(at[0], ".") || at[1] != "keys" || slices.Contains(at, "") {
			return fmt.Errorf("want azurekeyvault://VAULT-HOST/keys/NAME or …/keys/NAME/VERSION")
		}
	case "gcpkms":
		if len(at) != 8 || at[0] != "projects" || at[2] != "locations" || at[4] != "keyRings" || at[6] != "cryptoKeys" || slices.Contains(at, "") {
			return fmt.Errorf("want gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
		}
	case "hashivault":
		if len(at) != 1 {
			return fmt.Errorf("want hashivault://NAME; the engine's path goes into ?engine=")
		}
	}
	return nil
}

// ID returns the master key id: the URL without what says only how this machine gets to the service. It is the same
// for equal keys, and a KeyURL again.
func (u KeyURL) ID() string {
	slash := ""
	if strings.Contains(u.Key, ":") { // an ARN, whose colons a URL allows only in the path
		slash = "/"
	}
	id := u.Scheme + "://" + slash + u.Key
	kept := url.Values{}
	for _, name := range params[u.Scheme].kept {
		if value := u.Params.Get(name); value != "" {
			kept.Set(name, value)
		}
	}
	if len(kept) > 0 {
		id += "?" + kept.Encode()
	}
	return id
}

// keyOf returns the service's own name of the key that an id stands for, "" if the id is no KeyURL.
func keyOf(id string) string {
	u, err := ParseKeyURL(id)
	if err != nil {
		return ""
	}
	return u.Key
}
