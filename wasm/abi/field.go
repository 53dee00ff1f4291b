package abi

import "strings"

// isToken says whether s is a header name or method (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// isFieldValue says whether s may stand in a header (RFC 9110 section 5.5): no line break can be smuggled in.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isConnectionHeader says whether name belongs to the connection, not to the message (RFC 9110 section 7.6.1), or frames
// it: those are the agent's, a guest must not set them.
func isConnectionHeader(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "content-length", "host", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer",
		"transfer-encoding", "upgrade":
		return true
	}
	return false
}
