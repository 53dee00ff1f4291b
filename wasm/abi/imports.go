package abi

import "slices"

// ValType is a Wasm value type in its binary encoding (WebAssembly 2.0, section 5.3.1).
type ValType byte

// The value types host functions use. Others exist (0x7d f32, 0x7c f64, 0x7b v128, 0x70 funcref, 0x6f externref).
const (
	I32 ValType = 0x7f
	I64 ValType = 0x7e
)

func (t ValType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case 0x7d:
		return "f32"
	case 0x7c:
		return "f64"
	case 0x7b:
		return "v128"
	case 0x70:
		return "funcref"
	case 0x6f:
		return "externref"
	}
	return "?"
}

// Import is one function a guest may import. Its index in Imports is its number for Session.Host.
type Import struct {
	Module, Name    string
	Params, Results []ValType // at most MaxParams, at most one result
}

// MaxParams is the largest number of parameters of any import.
const MaxParams = 9

// Modules of imports.
const (
	ModuleMayfly = "mayfly_v1"
	ModuleWASI   = "wasi_snapshot_preview1"
	ModuleEnv    = "env" // AssemblyScript's abort
)

// Imports returns every function a guest may import. The order is fixed within one build of the agent; the caller owns
// the slice, not the elements' parameters.
func Imports() []Import { return slices.Clone(imports[:]) }

// Numbers of imports: the index in Imports.
const (
	idEventData = iota
	idEventAttr
	idEventJSON
	idPublish
	idRespond
	idRespondAttr
	idFail
	idRetryAfter
	idKVGet
	idKVPut
	idKVDel
	idKVIncr
	idKVCas
	idKVVer
	idKVList
	idConfigGet
	idSecretGet
	idLog
	idHTTPSend
	idHTTPRead
	idHTTPMeta
	idHTTPClose
	idNowMs
	idLeftMs
	idRandom

	idAbort

	idArgsGet
	idArgsSizesGet
	idEnvironGet
	idEnvironSizesGet
	idClockResGet
	idClockTimeGet
	idFdClose
	idFdFdstatGet
	idFdFdstatSetFlags
	idFdFilestatGet
	idFdPrestatGet
	idFdPrestatDirName
	idFdRead
	idFdSeek
	idFdTell
	idFdWrite
	idPollOneoff
	idProcExit
	idRandomGet
	idSchedYield

	// From here on preview 1 functions that only answer an error number.
	idFdAdvise
	idFdAllocate
	idFdDatasync
	idFdFdstatSetRights
	idFdFilestatSetSize
	idFdFilestatSetTimes
	idFdPread
	idFdPwrite
	idFdReaddir
	idFdRenumber
	idFdSync
	idPathCreateDirectory
	idPathFilestatGet
	idPathFilestatSetTimes
	idPathLink
	idPathOpen
	idPathReadlink
	idPathRemoveDirectory
	idPathRename
	idPathSymlink
	idPathUnlinkFile
	idProcRaise
	idSockAccept
	idSockRecv
	idSockSend
	idSockShutdown

	importCount
)

// imports is a constant table.
var imports = [importCount]Import{
	idEventData:   mayfly("event_data", "ii", "i"),
	idEventAttr:   mayfly("event_attr", "iiii", "i"),
	idEventJSON:   mayfly("event_json", "ii", "i"),
	idPublish:     mayfly("publish", "iiiii", "i"),
	idRespond:     mayfly("respond", "ii", "i"),
	idRespondAttr: mayfly("respond_attr", "iiii", "i"),
	idFail:        mayfly("fail", "ii", ""),
	idRetryAfter:  mayfly("retry_after", "I", ""),
	idKVGet:       mayfly("kv_get", "iiii", "i"),
	idKVPut:       mayfly("kv_put", "iiiiI", "i"),
	idKVDel:       mayfly("kv_del", "ii", "i"),
	idKVIncr:      mayfly("kv_incr", "iiIi", "i"),
	idKVCas:       mayfly("kv_cas", "iiIii", "I"),
	idKVVer:       mayfly("kv_ver", "ii", "I"),
	idKVList:      mayfly("kv_list", "iiiiii", "i"),
	idConfigGet:   mayfly("config_get", "iiii", "i"),
	idSecretGet:   mayfly("secret_get", "iiii", "i"),
	idLog:         mayfly("log", "iii", ""),
	idHTTPSend:    mayfly("http_send", "iiii", "i"),
	idHTTPRead:    mayfly("http_read", "iii", "i"),
	idHTTPMeta:    mayfly("http_meta", "iii", "i"),
	idHTTPClose:   mayfly("http_close", "i", ""),
	idNowMs:       mayfly("now_ms", "", "I"),
	idLeftMs:      mayfly("left_ms", "", "I"),
	idRandom:      mayfly("random", "ii", ""),

	idAbort: {ModuleEnv, "abort", types("iiii"), nil},

	idArgsGet:          wasi("args_get", "ii"),
	idArgsSizesGet:     wasi("args_sizes_get", "ii"),
	idEnvironGet:       wasi("environ_get", "ii"),
	idEnvironSizesGet:  wasi("environ_sizes_get", "ii"),
	idClockResGet:      wasi("clock_res_get", "ii"),
	idClockTimeGet:     wasi("clock_time_get", "iIi"),
	idFdClose:          wasi("fd_close", "i"),
	idFdFdstatGet:      wasi("fd_fdstat_get", "ii"),
	idFdFdstatSetFlags: wasi("fd_fdstat_set_flags", "ii"),
	idFdFilestatGet:    wasi("fd_filestat_get", "ii"),
	idFdPrestatGet:     wasi("fd_prestat_get", "ii"),
	idFdPrestatDirName: wasi("fd_prestat_dir_name", "iii"),
	idFdRead:           wasi("fd_read", "iiii"),
	idFdSeek:           wasi("fd_seek", "iIii"),
	idFdTell:           wasi("fd_tell", "ii"),
	idFdWrite:          wasi("fd_write", "iiii"),
	idPollOneoff:       wasi("poll_oneoff", "iiii"),
	idProcExit:         {ModuleWASI, "proc_exit", types("i"), nil},
	idRandomGet:        wasi("random_get", "ii"),
	idSchedYield:       wasi("sched_yield", ""),

	idFdAdvise:             wasi("fd_advise", "iIIi"),
	idFdAllocate:           wasi("fd_allocate", "iII"),
	idFdDatasync:           wasi("fd_datasync", "i"),
	idFdFdstatSetRights:    wasi("fd_fdstat_set_rights", "iII"),
	idFdFilestatSetSize:    wasi("fd_filestat_set_size", "iI"),
	idFdFilestatSetTimes:   wasi("fd_filestat_set_times", "iIIi"),
	idFdPread:              wasi("fd_pread", "iiiIi"),
	idFdPwrite:             wasi("fd_pwrite", "iiiIi"),
	idFdReaddir:            wasi("fd_readdir", "iiiIi"),
	idFdRenumber:           wasi("fd_renumber", "ii"),
	idFdSync:               wasi("fd_sync", "i"),
	idPathCreateDirectory:  wasi("path_create_directory", "iii"),
	idPathFilestatGet:      wasi("path_filestat_get", "iiiii"),
	idPathFilestatSetTimes: wasi("path_filestat_set_times", "iiiiIIi"),
	idPathLink:             wasi("path_link", "iiiiiii"),
	idPathOpen:             wasi("path_open", "iiiiiIIii"),
	idPathReadlink:         wasi("path_readlink", "iiiiii"),
	idPathRemoveDirectory:  wasi("path_remove_directory", "iii"),
	idPathRename:           wasi("path_rename", "iiiiii"),
	idPathSymlink:          wasi("path_symlink", "iiiii"),
	idPathUnlinkFile:       wasi("path_unlink_file", "iii"),
	idProcRaise:            wasi("proc_raise", "i"),
	idSockAccept:           wasi("sock_accept", "iii"),
	idSockRecv:             wasi("sock_recv", "iiiiii"),
	idSockSend:             wasi("sock_send", "iiiii"),
	idSockShutdown:         wasi("sock_shutdown", "ii"),
}

func mayfly(name, params, results string) Import {
	return Import{ModuleMayfly, name, types(params), types(results)}
}

// wasi returns a preview 1 function: all but proc_exit answer one error number.
func wasi(name, params string) Import {
	return Import{ModuleWASI, name, types(params), types("i")}
}

// types reads "i" as i32 and "I" as i64.
func types(s string) []ValType {
	var t []ValType
	for _, c := range s {
		if c == 'I' {
			t = append(t, I64)
		} else {
			t = append(t, I32)
		}
	}
	return t
}
