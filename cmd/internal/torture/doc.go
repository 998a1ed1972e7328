// Package torture does to real taster processes what happens to processes in years of operation, a thousand times in an
// hour, and then counts record by record. It is all tests; make torture runs it.
//
// A *cycle* publishes records with ids, starts one to three instances of one consumer group, and lets one *fault* strike:
// kill -9 at a random moment or at a named point between two steps of a commit (package killpoint), rebalances, writers
// that are stopped and wake up when others have their partitions, a full, read-only or vanished disk, no key
// service, no broker, a clock that jumps. A *round* is a number of cycles on one landing zone; at its end a healthy
// instance, built as it is deployed, lands what is left, and then everything is counted by reading the zone back:
//
//   - lost: an id that was published and is nowhere, though all of the zone could be read;
//   - duplicated: an id, or an offset, that is there twice;
//   - unreadable: an id that is missing while something in the zone could not be read.
//
// Beside, verify must find nothing, every flagged record must have been told, the group's offset must never have been
// past the last manifest, and no planted content and no key may be found in any byte of the zone, the logs or the metrics.
//
// What strikes, when, and how much is published follow from the seed. How far the processes have come by then does not:
// they are real, and so is the machine's load. A seed therefore repeats the faults, and a rare interleaving may need it
// several times. docs/torture.md says how.
package torture
