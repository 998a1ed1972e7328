// Package kafka reads records from Apache Kafka and tells their providers what became of them.
//
// # Vocabulary
//
// A [Consumer] is one member of a consumer group. Kafka assigns it partitions; each assigned partition is a
// [record.Source], named by topic, topic id and partition number. A [Handler] does the work. It says where a
// source begins, is given the source's messages in order, and is told when the source is taken away. A [Hint] is
// what stands in Kafka as the group's committed offset: the landing zone is the offset store, and the hint only
// says where in it to look first. A [Publisher] writes events to the verdict and dead-letter topics.
//
// # Guarantees
//
//   - A source starts where [Handler.Assigned] says, never at the committed offset.
//   - A source's messages come in rising order of offset, one call at a time, and none is left out: what an offset
//     range lacks was not in the log for this reader (retention, compaction, aborted transactions, transaction
//     markers). The next offset that is handed over with them counts those too. [Consumer.Rewind] goes on elsewhere,
//     exactly.
//   - A source is one incarnation of a topic. A topic that was deleted and made again has another topic id, and is
//     another source. Messages of two incarnations are never mixed, because every fetch carries the topic id.
//   - [Handler.Revoked] is called once for every call of Assigned that returned no error, after the last call of
//     Messages for this source has returned. No other member of the group is given the partition before Revoked
//     has returned, unless the partition was lost.
//   - Memory is bounded, whatever the number of partitions and however slow the handler; see [Config.BufferBytes].
//     A partition that is not worked off is paused. The others go on.
//   - A log that ends before the offset that is wanted next (it was truncated) stops that partition, loudly, for as
//     long as it is assigned; it is never reset. A log that begins after it (retention) goes on at its beginning.
//
// Topic, partition, offset, timestamp and topic id come from the broker. A broker that does not know topic ids in
// its fetches (Kafka before 3.1) is refused.
//
// # What it does not do
//
// It commits nothing by itself, creates no topics, decodes nothing, and logs nothing: what happens is told to
// [Events]. No key, value or header ever stands in an error or an event.
package kafka
