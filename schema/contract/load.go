package contract

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tasterhq/taster/schema/contract/strict"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/schema/validate"
)

// Codes of the faults that only a contract can have; those of any YAML file are in package strict, those of a
// schema in package validate. They are stable.
const (
	Unsupported    = "unsupported"     // right, and beyond what this version can do
	PointerSyntax  = "pointer_syntax"  // not an RFC 6901 pointer to a field
	PointerUnknown = "pointer_unknown" // the schema has no such field
	RoleType       = "role_type"       // the field's type cannot play the part
	FieldConflict  = "field_conflict"  // a field is wanted for two things that exclude each other
)

// The budget that holds where a contract names none, and the largest one that it may name. The defaults and bounds of
// limits are those of package validate.
const (
	DefaultBudget = 0.01
	MaxBudget     = 0.5
)

// Load reads the contract in the file at path, and the schema that it names. It returns every fault that it finds,
// in the order of their lines, and a contract only when there is none.
func Load(path string) (*Contract, []validate.Fault) {
	data, fault := strict.ReadFile(path)
	if fault != nil {
		return nil, []validate.Fault{*fault}
	}
	d := parse(path, data)
	d.compile()
	if faults := d.doc.Faults(); len(faults) > 0 {
		return nil, strict.Sorted(path, faults)
	}
	var err error
	if d.contract.Digest, err = digest(path, data, d.contract.Schema.Files()); err != nil {
		return nil, []validate.Fault{{File: path, Code: strict.FileMissing, Detail: err.Error()}}
	}
	return d.contract, nil
}

// draft is a contract on its way, with the places that its pointers stand at.
type draft struct {
	doc      *strict.Document
	contract *Contract

	schema     strict.Value
	roles      []role
	restricted []place
	drop       []place
	tokenize   []place
}

// place is a pointer with the place in the file where it is named.
type place struct {
	pointer string
	strict.Value
}

// role is a place that plays a part.
type role struct {
	place
	part part
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
var referenceName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}@(latest|[1-9][0-9]{0,8})$`)

// parse reads everything that the contract itself says; the schema is not looked at.
func parse(path string, data []byte) *draft {
	doc, root := strict.Parse(path, data, nil)
	c := &Contract{Path: path}
	d := &draft{doc: doc, contract: c}
	if len(doc.Faults()) > 0 {
		return d
	}
	m := root.Mapping("topic", "owner", "purpose", "classification", "region", "schema", "roles", "restricted",
		"limits", "sanitize", "detect")

	topic := m.Require("topic")
	c.Topic = topic.Text()
	if c.Topic != "" && (!topicName.MatchString(c.Topic) || c.Topic == "." || c.Topic == "..") {
		topic.Fault(strict.BadValue, "%s is no Kafka topic name: want 1 to 249 of letters, digits, '.', '_' and '-'",
			topic.Shown())
	}
	c.Owner = m.Require("owner").Text()
	c.Purpose = m.At("purpose").Text()
	c.Region = m.At("region").Text()
	c.Classification = classification(m.Require("classification"))

	d.schema = m.Require("schema")
	if name := d.schema.Text(); name != "" {
		c.SchemaPath = name
		if !filepath.IsAbs(name) {
			c.SchemaPath = filepath.Join(filepath.Dir(path), filepath.FromSlash(name))
		}
	}

	d.parseRoles(m.At("roles"))
	d.restricted, c.Restricted = places(m.At("restricted"))

	limits := m.At("limits").Mapping("bytes", "depth")
	c.Limits.Bytes = int(limits.At("bytes").Size(1, validate.MaxBytes, validate.DefaultBytes))
	c.Limits.Depth = limits.At("depth").Int(1, validate.MaxDepth, validate.DefaultDepth)

	d.parseSanitize(m.At("sanitize"))
	d.parseDetect(m.At("detect"))
	return d
}

func classification(v strict.Value) record.Classification {
	classes := []record.Classification{record.Public, record.Internal, record.Confidential, record.Restricted}
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = c.String()
	}
	if i := slices.Index(names, v.OneOf(names...)); i >= 0 {
		return classes[i]
	}
	return record.Restricted
}

func (d *draft) parseRoles(v strict.Value) {
	m := v.Mapping("id", "provider", "text", "label", "features", "embedding", "probabilities", "loss", "gradient")
	roles := &d.contract.Roles
	one := func(key string, as part) string {
		at, ok := pointer(m.At(key))
		if ok {
			d.roles = append(d.roles, role{at, as})
		}
		return at.pointer
	}
	several := func(key string, as part) []string {
		at, pointers := places(m.At(key))
		for _, p := range at {
			d.roles = append(d.roles, role{p, as})
		}
		return pointers
	}
	roles.ID = one("id", partID)
	roles.Provider = d.provider(m.At("provider"))
	roles.Text = several("text", partText)
	roles.Label = one("label", partLabel)
	roles.Features = several("features", partFeature)
	roles.Embedding = one("embedding", partVector)
	roles.Probabilities = one("probabilities", partVector)
	roles.Loss = one("loss", partNumber)
	roles.Gradient = one("gradient", partVector)
}

// provider reads one of the four forms in which a contract says who a record is from.
func (d *draft) provider(v strict.Value) Provider {
	text := v.Text()
	if name, ok := strings.CutPrefix(text, "header:"); ok && name != "" {
		return Provider{Header: name}
	}
	if name, ok := strings.CutPrefix(text, "is:"); ok && name != "" {
		return Provider{Is: name}
	}
	switch {
	case text == "key":
		return Provider{Key: true}
	case strings.HasPrefix(text, "/"):
		at, ok := pointer(v)
		if ok {
			d.roles = append(d.roles, role{at, partID})
		}
		return Provider{Field: at.pointer}
	case text != "":
		v.Fault(strict.BadValue, "%s is none of the forms /field, header:NAME, key and is:NAME", v.Shown())
	}
	return Provider{}
}

// pointer reads a pointer to a field. The pointer to the whole record is none.
func pointer(v strict.Value) (place, bool) {
	text := v.Text()
	if text == "" {
		return place{Value: v}, false
	}
	if _, ok := record.Tokens(text); !ok {
		v.Fault(PointerSyntax, "%s is no RFC 6901 pointer: want a / before each name, ~1 for a / in a name and ~0 for a ~",
			v.Shown())
		return place{Value: v}, false
	}
	return place{text, v}, true
}

// places reads a list of pointers, or a single one. A pointer that is named twice is a fault.
func places(v strict.Value) ([]place, []string) {
	var all []place
	var pointers []string
	for _, member := range v.List(true) {
		at, ok := pointer(member)
		switch {
		case !ok:
		case slices.Contains(pointers, at.pointer):
			member.Fault(strict.BadValue, "%s is named twice", member.Shown())
		default:
			all = append(all, at)
			pointers = append(pointers, at.pointer)
		}
	}
	return all, pointers
}

// Entities lists the kinds of personal data that a contract may name, with the names that Microsoft Presidio gives
// them.
var Entities = []string{
	"AU_ABN", "AU_ACN", "AU_MEDICARE", "AU_TFN", "CREDIT_CARD", "CRYPTO", "DATE_TIME", "EMAIL_ADDRESS", "ES_NIE",
	"ES_NIF", "FI_PERSONAL_IDENTITY_CODE", "IBAN_CODE", "IN_AADHAAR", "IN_PAN", "IN_PASSPORT",
	"IN_VEHICLE_REGISTRATION", "IN_VOTER", "IP_ADDRESS", "IT_DRIVER_LICENSE", "IT_FISCAL_CODE", "IT_IDENTITY_CARD",
	"IT_PASSPORT", "IT_VAT_CODE", "KR_RRN", "LOCATION", "MAC_ADDRESS", "MEDICAL_LICENSE", "NRP", "PERSON",
	"PHONE_NUMBER", "PL_PESEL", "SG_NRIC_FIN", "SG_UEN", "TH_TNIN", "UK_NHS", "UK_NINO", "URL", "US_BANK_NUMBER",
	"US_DRIVER_LICENSE", "US_ITIN", "US_PASSPORT", "US_SSN",
}

// DefaultEntity is the name in sanitize.pii that stands for every kind of personal data that is not named.
const DefaultEntity = "default"

func (d *draft) parseSanitize(v strict.Value) {
	m := v.Mapping("drop", "tokenize", "pii", "secrets", "unicode", "injection")
	s := &d.contract.Sanitize
	d.drop, s.Drop = places(m.At("drop"))
	d.tokenize, s.Tokenize = places(m.At("tokenize"))
	pii := m.At("pii")
	if pii.Present() {
		s.PII = map[string]Action{}
	}
	known := append([]string{DefaultEntity}, Entities...)
	for _, e := range pii.Entries() {
		if near := strict.Nearest(e.Key, known); near != e.Key {
			e.Fault(strict.UnknownKey, "unknown kind of personal data %s; the nearest known one is %q",
				strict.Quote(e.Key), near)
			continue
		}
		action := oneAction(e.Value, Keep, Redact, Reject, Hash, Tokenize)
		s.PII[e.Key] = action
		d.supportPII(e.Key, action, e.Value)
	}
	s.Secrets = oneAction(m.At("secrets"), Keep, Redact, Reject, Hash, Tokenize)
	if s.Unicode = oneAction(m.At("unicode"), Keep, Clean, Quarantine, Reject); s.Unicode == "" {
		s.Unicode = Clean
	}
	s.Injection = oneAction(m.At("injection"), Keep, Quarantine, Reject)
	d.supportSanitize(m)
}

func oneAction(v strict.Value, allowed ...Action) Action {
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	return Action(v.OneOf(names...))
}

// Detectors lists the detectors that a contract may name.
var Detectors = []string{
	"outlier", "embedding", "trigger", "near_duplicate", "label", "drip", "drift", "provider", "consistency", "loss", "gradient", "gradient_similarity", "spectral", "activation",
	"language", "value_trigger", "collusion", "association",
}

func (d *draft) parseDetect(v strict.Value) {
	m := v.Mapping("budget", "reference", "detectors")
	detect := &d.contract.Detect
	budget := m.At("budget")
	if share, ok := budget.Float(DefaultBudget); ok && !(share > 0 && share <= MaxBudget) {
		budget.Fault(strict.BadValue, "%s is not a share above 0 and at most %g", budget.Shown(), MaxBudget)
	} else {
		detect.Budget = share
	}
	reference := m.At("reference")
	detect.Reference = reference.Text()
	if detect.Reference != "" && !referenceName.MatchString(detect.Reference) {
		reference.Fault(strict.BadValue, "%s is neither NAME@latest nor NAME@VERSION with a VERSION from 1",
			reference.Shown())
	}
	detect.Detectors = map[string]map[string]any{}
	detectors := m.At("detectors").Mapping(Detectors...)
	for _, name := range Detectors {
		at := detectors.At(name)
		if !at.Present() {
			continue
		}
		settings := at.Mapping("enabled")
		detect.Detectors[name] = map[string]any{"enabled": settings.At("enabled").Bool(true)}
	}
}
