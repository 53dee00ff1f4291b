package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal says whether v is a file behind which a person sits.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
