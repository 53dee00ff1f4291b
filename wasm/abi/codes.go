package abi

// Negative answers of mayfly_v1 functions.
const (
	codeAbsent      = -1 // there is no such thing
	codeDenied      = -2 // not permitted by the manifest
	codeInvalid     = -3 // the argument makes no sense
	codeTooLarge    = -4 // this one thing is larger than it may ever be
	codeOverLimit   = -5 // too much altogether in this event
	codeUnavailable = -6 // worth a retry
	codeConflict    = -7 // the key has another version
	codeDeadline    = -8 // no time is left
)

// Bounds that no manifest changes.
const (
	MaxKey         = 1024      // bytes of a state key
	MaxValue       = 256 << 10 // bytes of a state value
	MaxWrites      = 1024      // keys written by one event
	MaxWriteBytes  = 1 << 20   // bytes of keys and values written by one event: a commit is one transaction
	MaxFailure     = 1024      // bytes kept of what fail was told
	MaxHeaders     = 64        // headers of a response, and of a request
	MaxHeaderBytes = 8 << 10   // bytes of one header of a response
	MaxRequestJSON = 16 << 10  // bytes of the request http_send reads
	MaxMetaJSON    = 64 << 10  // bytes of what http_meta answers
	MaxOpenHTTP    = 8         // answers held at once
	MaxHTTP        = 64        // requests of one event
	MaxVectors     = 1024      // buffers of one fd_read or fd_write, and subscriptions of one poll_oneoff
	MaxLine        = 4096      // bytes of a line written to stderr; longer ones are cut in pieces
	LogLineCost    = 16        // bytes each log line counts beside its text
)

// i32 encodes a signed 32-bit result.
func i32(n int32) uint64 { return uint64(uint32(n)) }

// i64 encodes a signed 64-bit result.
func i64(n int64) uint64 { return uint64(n) }
