package envelope

import "strings"

// Zone names a set of data that shares a master key.
type Zone string

// The zones. One that has no master key of its own uses that of Default.
const (
	Default     Zone = "default"
	Accepted    Zone = "accepted"
	Quarantined Zone = "quarantined"
	Rejected    Zone = "rejected"
	Restricted  Zone = "restricted"
	State       Zone = "state"
	Tokens      Zone = "tokens"
	Signing     Zone = "signing"
)

// Zones lists all of them.
var Zones = []Zone{Default, Accepted, Quarantined, Rejected, Restricted, State, Tokens, Signing}

// InZone returns the id of a master key as it serves a zone: KEYURL#ZONE. The id of a key in a key file is its bare
// name and is the same in every zone.
func InZone(masterKeyID string, zone Zone) string {
	if !strings.Contains(masterKeyID, "://") {
		return masterKeyID
	}
	return masterKeyID + "#" + string(zone)
}

// SplitZone undoes InZone. The zone is "" where the id tells none.
func SplitZone(masterKeyID string) (id string, zone Zone) {
	if !strings.Contains(masterKeyID, "://") {
		return masterKeyID, ""
	}
	id, name, _ := strings.Cut(masterKeyID, "#")
	return id, Zone(name)
}

// Context returns the text that a key service binds to a key that it wraps under masterKeyID: taster_zone=ZONE, or ""
// when the id tells no zone.
func Context(masterKeyID string) string {
	if _, zone := SplitZone(masterKeyID); zone != "" {
		return ContextKey + "=" + string(zone)
	}
	return ""
}

// ContextKey is the name of the zone in a context.
const ContextKey = "taster_zone"
