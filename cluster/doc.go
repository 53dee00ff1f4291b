// Package cluster is membership and small gossip: who is there, what each of them is and how busy it is, and keyed digests that
// others (the catalog) build their replication on. It does not know what it gossips, and being a member gives no authority: work
// and data travel over calls with certificates, elsewhere.
//
// It is a layer over hashicorp/memberlist, which no other package imports, and adds what a site of small devices needs: a network
// of its own, a member that rejoins for ever, addresses that change, devices that sleep, admission, and bounds on everything that
// comes from outside. DESIGN.md beside this file walks the failures.
package cluster
