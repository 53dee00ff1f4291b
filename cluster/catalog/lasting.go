//go:build !hasty

package catalog

import "time"

const (
	month        = 30 * 24 * time.Hour // how long a tombstone is kept unless said otherwise
	saveEvery    = 30 * time.Minute
	touchEvery   = time.Hour     // a call though all is equal: who never calls learns nothing of who is away
	contactFirst = time.Hour     // with others, before anything is collected
	contactGap   = 3 * time.Hour // more without a call, and contact begins anew
)
