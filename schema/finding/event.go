package finding

// Event tells a provider what became of one record. It holds no content. Events may repeat after a crash;
// receivers tell them apart by topic id, partition and offset.
type Event struct {
	Topic     string  `json:"topic"`
	TopicID   string  `json:"topic_id"`
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Verdict   Verdict `json:"verdict"`
	Reasons   []Code  `json:"reasons"`
}
