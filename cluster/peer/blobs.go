package peer

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mayfly/function"
)

const (
	uploadPiece = 32 << 10
	uploadStall = 30 * time.Second // a reader that takes nothing for so long is given up
	slowest     = 16 << 10         // bytes a second below which an upload or a download is not worth its place
)

// blob sends a module, or what of it comes after the start of a single range (RFC 9110 section 14.2). Its name says what it
// is, so it never changes.
func (s *Server) blob(w http.ResponseWriter, r *http.Request, _ string) {
	began := time.Now()
	d, err := function.ParseDigest(r.PathValue("digest"))
	if err != nil || hex.EncodeToString(d[:]) != r.PathValue("digest") || s.doors.Blob == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	default:
		s.counts.Busy.Add(1)
		s.say(w, began, s.busy("it sends as many modules as it may"))
		return
	}
	blob, size, err := s.doors.Blob(d)
	if err != nil {
		s.say(w, began, refusal(http.StatusNotFound, err))
		return
	}
	defer func() { _ = blob.Close() }() // it was only read
	h := w.Header()
	h.Set("ETag", etagOf(d))
	h.Set("Accept-Ranges", "bytes")
	if r.Header.Get("If-None-Match") == etagOf(d) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	status, from, to := rangeOf(r, d, size)
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		w.WriteHeader(status)
		return
	case http.StatusPartialContent:
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, size))
	}
	if _, err := blob.Seek(from, io.SeekStart); err != nil {
		s.say(w, began, refusal(http.StatusNotFound, err))
		return
	}
	h.Set(headerLoad, s.doors.Load().header(time.Since(began)))
	h.Set("Content-Type", "application/wasm")
	h.Set("Content-Length", strconv.FormatInt(to-from, 10))
	w.WriteHeader(status)
	s.upload(w, r, io.LimitReader(blob, to-from), to-from)
}

func etagOf(d function.Digest) string { return `"` + hex.EncodeToString(d[:]) + `"` }

// rangeOf says which part of size bytes is asked for, as [from, to). Several ranges are answered with the whole, which RFC 9110
// section 14.2 allows.
func rangeOf(r *http.Request, d function.Digest, size int64) (status int, from, to int64) {
	spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if match := r.Header.Get("If-Range"); !ok || !dash || match != "" && match != etagOf(d) {
		return http.StatusOK, 0, size
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return http.StatusOK, 0, size
	}
	to = size
	if last != "" {
		end, err := strconv.ParseInt(last, 10, 64)
		if err != nil || end < from {
			return http.StatusOK, 0, size
		}
		to = min(size, end+1)
	}
	if from >= size {
		return http.StatusRequestedRangeNotSatisfiable, 0, 0
	}
	return http.StatusPartialContent, from, to
}

// upload sends n bytes at the pace of the link. A reader that stalls loses its turn: the other side resumes.
func (s *Server) upload(w http.ResponseWriter, r *http.Request, src io.Reader, n int64) {
	c := http.NewResponseController(w)
	rate := int64(slowest)
	if s.limits.Rate > 0 {
		rate = min(rate, s.limits.Rate/int64(2*s.limits.Uploads)+1)
	}
	last := time.Now().Add(uploadStall + time.Duration(n/rate)*time.Second)
	buf := make([]byte, uploadPiece)
	for {
		k, err := io.ReadFull(src, buf)
		if k > 0 {
			if s.pace.wait(r.Context(), k) != nil || time.Now().After(last) {
				panic(http.ErrAbortHandler) // so that the other side does not take it for the end
			}
			_ = c.SetWriteDeadline(time.Now().Add(uploadStall)) // HTTP/2 can
			if _, err := w.Write(buf[:k]); err != nil {
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return
		case err != nil:
			panic(http.ErrAbortHandler)
		}
	}
}
