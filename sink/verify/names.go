package verify

import (
	"strconv"
	"strings"
)

// The kinds of items. Those of one step are looked at in this order.
const (
	// of a chain as a whole
	isWanted byte = 'A' + iota // another object says that there is this chain: its name
	isAnchor                   // where a checkpoint lets it begin: place
	isSaved                    // how far an earlier run came: JSON

	// of a place
	isClaimed  // a checkpoint names the entry: its SHA-256, a space, the checkpoint
	isObject   // the manifest or change, or a checkpoint or reference, was listed
	isEntry    // the audit entry was listed
	isFile     // a data file was listed: JSON of listed
	isSidecar  // and key material of one
	isAdded    // a change added a file: JSON of added
	isRemoved  // a change removed one: JSON of gone
	isMaterial // a change replaced key material: JSON of rewrapped
	isVouched  // an audit entry speaks of the reference, or of a copy of a state or recalls: its SHA-256, a space, the entry
	isRecalls  // recalls were listed
	isState    // a state was listed
	isLast     // the last manifest of a partition begins here: JSON of last
)

// listed is an object as a listing shows it.
type listed struct {
	Name    string `json:"n"`
	Size    int64  `json:"s"`
	Version string `json:"v,omitempty"`
	Changed int64  `json:"t,omitempty"` // seconds since the Unix epoch; 0: not known
}

// The folders of a landing zone.
const (
	commits      = "_commits/"
	changes      = "_changes/"
	auditCommits = "_audit/commits/"
	auditChanges = "_audit/changes/"
	auditProcess = "_audit/process/"
	checkpoints  = "_audit/checkpoints/"
	signingKeys  = "_audit/keys/"
	references   = "_reference/"
	states       = "_state/"
	recalled     = "_recalls/"
)

// place is where an object belongs.
type place struct {
	phase     int
	chain, at string
	kind      byte
}

// The phases, in the order in which they are verified: what is found in one is asked for in later ones.
const (
	inCheckpoints = iota
	inChanges
	inSegments
	inStates
	inProcesses
	inReferences
	phases
)

// locate tells where an object belongs by its name. Names that no object of a landing zone has belong nowhere.
func locate(name string) (place, bool) {
	folder, rest, _ := strings.Cut(name, "/")
	switch folder {
	case "_commits":
		return inPartition(inSegments, rest, isObject)
	case "_changes":
		return inPartition(inChanges, rest, isObject)
	case "_reference":
		return place{inReferences, name, "", isObject}, rest != ""
	case "_state", "_recalls":
		return sealedPlace(name, rest)
	case "accepted", "quarantined", "rejected":
		return dataPlace(name)
	case "_audit":
	default:
		return place{}, false
	}
	folder, rest, _ = strings.Cut(rest, "/")
	switch folder {
	case "commits":
		return inPartition(inSegments, rest, isEntry)
	case "changes":
		return inPartition(inChanges, rest, isEntry)
	case "process":
		process, base, _ := strings.Cut(rest, "/")
		at, ok := number(base, ".json")
		return place{inProcesses, process, at, isEntry}, ok && process != ""
	case "checkpoints":
		at, ok := number(rest, ".note")
		return place{inCheckpoints, "", at, isObject}, ok
	}
	return place{}, false
}

// inPartition takes T/ID/PARTITION/NUMBER.json.
func inPartition(phase int, rest string, kind byte) (place, bool) {
	cut := strings.LastIndexByte(rest, '/')
	if cut < 0 {
		return place{}, false
	}
	chain := rest[:cut]
	at, ok := number(rest[cut+1:], ".json")
	return place{phase, chain, at, kind}, ok && isPartition(chain)
}

// sealedPlace locates T/ID/PARTITION/FIRST.RANDOM[.COPY].sealed. A copy under another master key is looked at with the
// references: like these it is known to the audit log only.
func sealedPlace(name, rest string) (place, bool) {
	cut := strings.LastIndexByte(rest, '/')
	if cut < 0 {
		return place{}, false
	}
	chain := rest[:cut]
	fields := strings.Split(rest[cut+1:], ".")
	if len(fields) != 3 && len(fields) != 4 || fields[len(fields)-1] != "sealed" || !isPartition(chain) {
		return place{}, false
	}
	at, ok := number(fields[0], "")
	if len(fields[1]) != 16 || strings.Trim(fields[1], "0123456789abcdef") != "" {
		ok = false
	}
	if len(fields) == 4 {
		n, err := strconv.Atoi(fields[2])
		return place{inReferences, name, "", isObject}, ok && err == nil && n > 0 && strconv.Itoa(n) == fields[2]
	}
	if strings.HasPrefix(name, recalled) {
		return place{inSegments, chain, at, isRecalls}, ok
	}
	return place{inStates, chain, at, isState}, ok
}

func isPartition(chain string) bool {
	parts := strings.Split(chain, "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return false
	}
	n, err := strconv.ParseInt(parts[2], 10, 32)
	return err == nil && n >= 0 && strconv.FormatInt(n, 10) == parts[2]
}

// number takes a name of 20 digits.
func number(base, suffix string) (string, bool) {
	digits, ok := strings.CutSuffix(base, suffix)
	if !ok || len(digits) != 20 || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	_, err := strconv.ParseInt(digits, 10, 64)
	return digits, err == nil
}

const (
	sidecarPrefix = "_KEY_MATERIAL_FOR_"
	sidecarSuffix = ".json"
)

// sidecarOf returns the name of the object with a data file's external key material.
func sidecarOf(file string) string {
	cut := strings.LastIndexByte(file, '/') + 1
	return file[:cut] + sidecarPrefix + file[cut:] + sidecarSuffix
}

// dataPlace locates VERDICT/T/DAY/ID.PARTITION.FIRST.NEXT[.CHANGE].RANDOM.parquet, and the sidecar of such a file.
func dataPlace(name string) (place, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return place{}, false
	}
	kind := isFile
	base := parts[3]
	if inner, ok := strings.CutPrefix(base, sidecarPrefix); ok {
		if base, ok = strings.CutSuffix(inner, sidecarSuffix); !ok {
			return place{}, false
		}
		kind = isSidecar
	}
	fields := strings.Split(base, ".")
	if len(fields) != 6 && len(fields) != 7 || fields[len(fields)-1] != "parquet" {
		return place{}, false
	}
	for _, digits := range fields[2 : len(fields)-2] {
		if _, ok := number(digits, ""); !ok {
			return place{}, false
		}
	}
	chain := parts[1] + "/" + fields[0] + "/" + fields[1]
	return place{inSegments, chain, fields[2], kind}, isPartition(chain)
}

// changeOf returns the sequence of the change that a data file was written for, "" for one of a manifest.
func changeOf(file string) string {
	fields := strings.Split(file[strings.LastIndexByte(file, '/')+1:], ".")
	if len(fields) != 7 {
		return ""
	}
	return fields[4]
}

// entryName returns the name of the audit entry at a place of a chain.
func entryName(phase int, chain, at string) string {
	folder := auditProcess
	switch phase {
	case inSegments:
		folder = auditCommits
	case inChanges:
		folder = auditChanges
	}
	return folder + chain + "/" + at + ".json"
}
