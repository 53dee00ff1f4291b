// Everything calls everything once, so that all imports are in the module. It is only looked at, never run.
package main

import (
	"errors"
	"mayfly/sdk/go/mayfly"
)

//go:wasmexport mayfly_handle
func handle() int32 { return mayfly.Run(all) }

func main() {}

func all(e *mayfly.Event) error {
	mayfly.RetryAfter(e.LeftMS() + mayfly.NowMS())
	mayfly.Log(mayfly.Warn, e.Attr("id"))
	about, err1 := e.JSON()
	err2 := mayfly.Publish("t", e.Data(), mayfly.QoS1|mayfly.Retain)
	err3 := mayfly.Respond(about)
	err4 := mayfly.RespondAttr("status", "204")
	value, err5 := mayfly.Get("k")
	err6 := mayfly.Put("k", value, 0)
	n, err7 := mayfly.Incr("k", 1)
	ver, err8 := mayfly.Version("k")
	_, err9 := mayfly.CAS("k", ver+n, value)
	_, err10 := mayfly.Keys("k")
	setting, err11 := mayfly.Config("k")
	_, err12 := mayfly.Secret("k")
	_, _, err13 := mayfly.Send(setting, value)
	mayfly.Random(value)
	return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10, err11, err12, err13, mayfly.Delete("k"))
}
