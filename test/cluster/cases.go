package main

// cases are all of them, the cheap ones first.
func cases() []ordeal {
	return []ordeal{
		{"form", "a cluster is founded and joined; tokens that must not work; a deployment is everywhere", false, form},
		{"kill", "kill -9 of the trigger's owner under 1,000 events a second", false, kill},
		{"split", "two halves that reach the broker but not each other; deployed and removed on both", false, split},
		{"bad-links", "frames lost in one direction, one in five lost, all of them late", true, badLinks},
		{"cable", "a start without any network, and the cable is in later", false, cable},
		{"address", "the owner's address changes", true, moves},
		{"pause", "SIGSTOP of the owner for 20 s", false, pause},
		{"keyring", "a node is away while the key of gossip is changed", false, keyring},
		{"revoked", "a node is shut out that has everything it had, and the operator's key", false, revoked},
		{"away", "a month away, switched off or with the cable out, while something is removed", true, away},
		{"gateways", "a function that one node alone may run, asked for everywhere; it is full, and it dies", false, gateways},
		{"sweep", "strangers at every port, a stolen key of gossip, replayed frames, floods", false, sweep},
		{"place", "five nodes with a fifth of a processor each, one has the only trigger of a function that needs all of it", false, place},
		{"drain", "owners are drained and take part again under 1,000 events a second", false, drain},
	}
}

// pick returns the first in the short form, else the second.
func pick[T any](t *trial, short, long T) T {
	if t.short {
		return short
	}
	return long
}
