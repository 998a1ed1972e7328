package kafka

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Hint is what the group's committed offset says about one partition. It is only a hint: it counts if the landing
// zone holds the manifest that it names. The zero Hint says nothing.
type Hint struct {
	TopicID string // the topic id at the time of the commit; "" in the zero Hint
	First   int64  // first offset of the last segment that was landed
	Next    int64  // the committed offset: the offset after that segment
}

// hintVersion begins the metadata string of a committed offset. Another layout gets another word.
const hintVersion = "taster1"

// hintMetadata is kept with the committed offset: hintVersion:topic id:first.
func hintMetadata(topicID string, first int64) string {
	return hintVersion + ":" + topicID + ":" + strconv.FormatInt(first, 10)
}

// parseHint returns the zero Hint for whatever it does not understand: an offset that somebody set by hand, or that
// another program committed, has no metadata of ours.
func parseHint(committed int64, metadata string) Hint {
	version, rest, ok := strings.Cut(metadata, ":")
	if !ok || version != hintVersion {
		return Hint{}
	}
	id, firstText, ok := strings.Cut(rest, ":")
	if raw, err := base64.RawURLEncoding.DecodeString(id); !ok || err != nil || len(raw) != 16 {
		return Hint{}
	}
	first, err := strconv.ParseInt(firstText, 10, 64)
	if err != nil || first < 0 || committed <= first {
		return Hint{}
	}
	return Hint{TopicID: id, First: first, Next: committed}
}

// topicID spells a topic id as Kafka's own tools do: base64url without padding.
func topicID(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// String is for logs.
func (h Hint) String() string {
	if h.TopicID == "" {
		return "none"
	}
	return fmt.Sprintf("[%d, %d) of topic id %s", h.First, h.Next, h.TopicID)
}
