// Command http is the baseline of the gateway: the least an ordinary Go program does to answer a request with its body, with the limits
// that any server on a network has.
package main

import (
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	ready := flag.String("ready", "", "file that the address is written to")
	flag.Parse()
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalln("listen:", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo/{line}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(body) // an error means the caller left
	})
	if err := os.WriteFile(*ready+".new", []byte(ln.Addr().String()), 0o600); err != nil {
		log.Fatalln(err)
	}
	if err := os.Rename(*ready+".new", *ready); err != nil {
		log.Fatalln(err)
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute}
	log.Fatalln(s.Serve(ln))
}
