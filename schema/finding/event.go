package finding

// Event tells a provider what became of one record. It holds no content. Events may repeat after a crash;
// receivers tell them apart by topic id, partition, offset and change.
type Event struct {
	Topic     string  `json:"topic"`
	TopicID   string  `json:"topic_id"`
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Verdict   Verdict `json:"verdict"`
	Reasons   []Code  `json:"reasons"`

	// Change says that something was found out about a record of which a verdict was told before, or which was
	// accepted silently; "" in the first event of a record. Verdict is what still holds: a recall alone changes none.
	Change Change `json:"change,omitempty"`
}

// Change is what became of a record after its verdict.
type Change string

// Recall says that later records speak against an accepted one; Reasons are what they hold against it.
const Recall Change = "recall"
