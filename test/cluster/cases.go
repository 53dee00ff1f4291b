package main

// cases are all of them, the cheap ones first.
func cases() []ordeal {
	return []ordeal{
		{"form", "a cluster is founded and joined; tokens that must not work; a deployment is everywhere", false, form},
		{"kill", "kill -9 of the trigger's owner under 1,000 events a second", false, kill},
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
