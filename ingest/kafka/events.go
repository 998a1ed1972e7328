package kafka

import "github.com/tasterhq/taster/schema/record"

// Events are told what happens. Fields may be nil. They are called from several goroutines, must return quickly, and
// must not call the Consumer. Nothing that they are given holds record content.
type Events struct {
	// Assigned: src is ours and begins at start.
	Assigned func(src record.Source, start int64)
	// Revoked: src was taken away. Lost says that another member may already have it.
	Revoked func(src record.Source, lost bool)

	// Paused: src holds so many bytes that it is not read further until half of them are worked off.
	Paused func(src record.Source, buffered int64)
	// Resumed: src is read again.
	Resumed func(src record.Source, buffered int64)

	// Gap: the log begins at start, after the offset next that was wanted. Retention took what lay between.
	Gap func(src record.Source, next, start int64)
	// Stopped: src cannot be read on without losing records, and is not, until it is assigned anew.
	Stopped func(src record.Source, err error)

	// TopicMissing: the topic does not exist. It is waited for.
	TopicMissing func(topic string)
	// TopicFound: a topic that was missing exists now.
	TopicFound func(topic string)
	// TopicReplaced: the topic that had the id was deleted, or made again.
	TopicReplaced func(topic, id string)

	// FetchFailed: a broker refuses to give records. Reading is tried again. Partition is -1 for a whole topic, and
	// topic is "" for a whole broker.
	FetchFailed func(topic string, partition int32, err error)
	// BrokerFailed: a broker cannot be dialled. It is tried again.
	BrokerFailed func(broker string, err error)
	// GroupFailed: the membership in the group was lost. The group is joined again.
	GroupFailed func(err error)
	// CommitFailed: the hint for src could not be written. Nothing is lost by that.
	CommitFailed func(src record.Source, err error)

	// Lag: so many offsets lie between the next message of src and the high watermark of its log. Told every
	// Config.Refresh.
	Lag func(src record.Source, lag int64)
}

// withDefaults fills the nil fields, so that callers need not ask.
func (e Events) withDefaults() Events {
	if e.Assigned == nil {
		e.Assigned = func(record.Source, int64) {}
	}
	if e.Revoked == nil {
		e.Revoked = func(record.Source, bool) {}
	}
	if e.Paused == nil {
		e.Paused = func(record.Source, int64) {}
	}
	if e.Resumed == nil {
		e.Resumed = func(record.Source, int64) {}
	}
	if e.Gap == nil {
		e.Gap = func(record.Source, int64, int64) {}
	}
	if e.Stopped == nil {
		e.Stopped = func(record.Source, error) {}
	}
	if e.TopicMissing == nil {
		e.TopicMissing = func(string) {}
	}
	if e.TopicFound == nil {
		e.TopicFound = func(string) {}
	}
	if e.TopicReplaced == nil {
		e.TopicReplaced = func(string, string) {}
	}
	if e.FetchFailed == nil {
		e.FetchFailed = func(string, int32, error) {}
	}
	if e.BrokerFailed == nil {
		e.BrokerFailed = func(string, error) {}
	}
	if e.GroupFailed == nil {
		e.GroupFailed = func(error) {}
	}
	if e.CommitFailed == nil {
		e.CommitFailed = func(record.Source, error) {}
	}
	if e.Lag == nil {
		e.Lag = func(record.Source, int64) {}
	}
	return e
}
