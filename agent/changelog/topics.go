package changelog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"mayfly/store"
)

// A changelog's topics:
//
//	mayfly/<cluster>/state/<function>/c/head         whose records count
//	mayfly/<cluster>/state/<function>/c/<slot>       the latest Slots commits
//	mayfly/<cluster>/state/<function>/k/<x>/<y>/<z>  the newest value of a key; xyz is a hash of it, x and y one hexadecimal digit each
//
// A broker sends what is retained for one subscription until its queue for the client is full, and then silently no more (mosquitto: 1,000
// messages). So a large state is read in pages, by x, or by x and y.

func (c *Config) base() string { return "mayfly/" + c.Cluster + "/state/" + c.Function + "/" }

func (c *Config) headTopic() string { return c.base() + "c/head" }

func (c *Config) slotTopic(seq uint64) string { return fmt.Sprintf("%sc/%d", c.base(), seq%Slots) }

func (c *Config) keyTopic(key []byte) string {
	sum := sha256.Sum256(key)
	text := hex.EncodeToString(sum[:16])
	return c.base() + "k/" + text[:1] + "/" + text[1:2] + "/" + text[2:]
}

// commits is the filter of what is not about keys.
func (c *Config) commits() string { return c.base() + "c/+" }

// pageSize is how many messages of one page a broker's queue has room for, with much to spare: pages are not equally large.
const pageSize = 400

// pages are filters that together bring the entries of that many keys, of which each brings few enough.
func (c *Config) pages(keys uint64) []string {
	const digits = "0123456789abcdef"
	k := c.base() + "k/"
	if keys <= pageSize {
		return []string{k + "+/+/+"}
	}
	var filters []string
	for _, x := range digits {
		if keys <= pageSize*16 {
			filters = append(filters, k+string(x)+"/+/+")
			continue
		}
		for _, y := range digits {
			filters = append(filters, k+string(x)+"/"+string(y)+"/+")
		}
	}
	return filters
}

// marker is a topic that a filter of ours matches, and none of the others.
func marker(filter, name string) string {
	return strings.TrimSuffix(strings.ReplaceAll(filter, "/+", "/~"), "~") + "~" + name
}

// isMarker says whether a topic is some subscriber's marker.
func isMarker(topic string) bool {
	return strings.HasPrefix(topic[strings.LastIndexByte(topic, '/')+1:], "~")
}

// What a node keeps of a function's changelog in its store, besides the state itself.

// Prefix is the prefix of all of it.
func Prefix(function string) []byte { return store.Trigger.Key(function, []byte("log/")) }

func (c *Config) slotKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint16(append(Prefix(c.Function), "slot/"...), uint16(seq%Slots))
}

func (c *Config) headKey() []byte { return append(Prefix(c.Function), "head"...) }

// halfKey is there while a copy is being taken over.
func (c *Config) halfKey() []byte { return append(Prefix(c.Function), "half"...) }
