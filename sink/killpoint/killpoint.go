// Package killpoint names the moments between two steps of a commit, so that a test can end or stop a real process at
// exactly one of them.
//
// A *point* is such a moment, and code says that it has come there with Reach, or ReachFor where an object is at hand.
// Without the build tag torture both are empty functions that the compiler removes, and no environment variable has
// any effect. With the tag, TASTER_KILL names one point and the process does to itself there what nobody can
// time from outside:
//
//	TASTER_KILL=linked:3                    kill -9 when the point linked is reached for the third time
//	TASTER_KILL=linked@_commits/:1          the same, counting only objects whose names begin with _commits/
//	TASTER_KILL=files_landed:2:stop         SIGSTOP instead: a writer that is paused, and goes on when somebody sends SIGCONT
//
// Several, separated by commas, each strike by themselves. A line on standard error says that one has.
//
// TASTER_CLOCK=36h:200ms sets the wall clock, as Skew tells it, 36 hours ahead from 200 ms after the start.
// Either variable, when it cannot be read, ends the process at once.
package killpoint

// Names lists every point that the code reaches, in the order in which a commit passes them. A test holds this list
// and the code together.
var Names = []string{
	// A segment on its way (cmd/internal/app/pipeline).
	"segment_ended", "state_loaded", "segment_scored", "commit_begun",
	// Its files and its manifest (sink/landing).
	"files_begun", "file_encoded", "file_landed", "state_written", "recalls_written", "files_landed", "manifest_begun", "manifest_doubted", "manifest_landed",
	"commit_lost", "drop_begun", "dropped",
	// An object on its way to the disk (sink/storage).
	"temp_created", "temp_written", "temp_synced", "folder_made", "linked", "folder_synced", "temp_closed", "delete_begun", "deleted",
	// What follows the commit (pipeline, sink/audit, cmd/internal/app).
	"commit_done", "entry_begun", "entry_doubted", "entry_landed", "audit_done", "events_begun", "events_done",
	"offset_begun", "offset_done", "tidied",
	// Another writer was first (pipeline).
	"rewind_begun", "rewind_reloaded", "rewind_done",
	// A partition changes hands (cmd/internal/app).
	"assigned", "head_found", "walk_begun", "walk_audited", "walk_told", "resumed", "revoked", "drained", "given_back",
	// A file is landed (cmd/internal/app).
	"file_opened", "file_resumed", "file_fed", "file_drained",
}
