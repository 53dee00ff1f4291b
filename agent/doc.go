// Package agent is the composition root: it makes the stations of an event's journey, in the order of the journey, and runs
// them. What happens to an event is in the packages below it; here is only who knows whom, what is started before what, and how
// it all stops in the direction of the flow.
package agent
