// Package changelog makes the state of a function follow its trigger from node to node: every commit is also a retained message at the
// trigger's broker, confirmed before the event is acknowledged, and a new owner makes its state what the broker holds before it runs
// anything. The broker, which the site trusts with its events already, is the replicated log; there is no protocol of our own.
//
// What is written is data (Record, Entry, Head), what is read back is folded by a pure function (Fold), and whose copy counts is decided by
// another (Decide). Log carries it out for one function. DESIGN.md walks the failures.
package changelog
