// Watch prints a line for each change of one name at one or more vwatch nodes.
//
//	go run watch.go NAME URL [URL ...]     for example: repo/artifact:latest http://127.0.0.1:8080
//
// It needs nothing but the standard library.
package main

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	poll   = 30 * time.Second // how long a node may hold a request; at most 60 s by default
	margin = 10 * time.Second // how long an answer may take beyond that
)

// Change is a new version of the name, or its delete.
type Change struct {
	Version string // empty for a delete
	Data    []byte
}

// Watcher knows what was reported last, and asks one node at a time for the next change.
type Watcher struct {
	name     string
	nodes    []string
	known    *string // nil: nothing is known; "": the name does not exist; else its version
	stamp    string  // newest X-Last-Sync that was seen: no node may answer with an older state
	reported *string // nil: nothing yet; "": the delete; else the version
	failures int
}

// NewWatcher watches name at the nodes with these URLs of client ports.
func NewWatcher(name string, nodes []string) *Watcher {
	nodes = append([]string(nil), nodes...)
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] }) // not all clients at the same node
	return &Watcher{name: name, nodes: nodes}
}

// Next waits for the next change. An error is final.
func (w *Watcher) Next(ctx context.Context) (Change, error) {
	for {
		started := time.Now()
		response, body, err := w.request(ctx)
		if ctx.Err() != nil {
			return Change{}, ctx.Err()
		}
		if err != nil {
			w.nextNode(ctx, err.Error(), "")
			continue
		}
		stamp, code := response.Header.Get("X-Last-Sync"), response.Header.Get("X-Vwatch-Error")
		switch status := response.StatusCode; {
		case (status == 200 || status == 410) && stamp == "" || status == 404 && code == "":
			w.nextNode(ctx, "the answer is not from a vwatch node", "")
		case status == 200 || status == 410 || status == 404 && code == "not-found":
			if response.Header.Get("X-Vwatch-Genesis") != "" || response.Header.Get("X-Vwatch-Lost-Since") != "" {
				w.stamp = "" // the cluster began a new set, or has lost what was seen
			}
			if stamp != "" {
				w.stamp = stamp
			}
			asksOtherwise := status == 404 && (w.known == nil || *w.known != "")
			version := ""
			if status == 200 {
				version = strings.Trim(response.Header.Get("ETag"), `"`)
			}
			w.known = &version
			if status != 404 && (w.reported == nil || *w.reported != version) {
				w.reported = &version
				w.failures = 0
				if status == 410 {
					body = nil
				}
				return Change{Version: version, Data: body}, nil
			}
			if time.Since(started) >= poll/2 || asksOtherwise {
				w.failures = 0
			} else {
				w.nextNode(ctx, "answered early without a change: it may be stopping", "")
			}
		case status == 408 || status == 409 || status == 429 || status >= 500:
			w.nextNode(ctx, response.Status, response.Header.Get("Retry-After"))
		default:
			return Change{}, fmt.Errorf("%s: %s: %s", w.name, response.Status, strings.TrimSpace(string(body)))
		}
	}
}

func (w *Watcher) request(ctx context.Context) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, poll+margin)
	defer cancel()
	query := url.Values{"timeout": {poll.String()}}
	if w.known != nil {
		query.Set("version", *w.known)
	}
	node := w.nodes[0]
	if !strings.Contains(node, "://") {
		node = "http://" + node
	}
	segments := strings.Split(w.name, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	address := node + "/v1/versions/" + strings.Join(segments, "/") + "?" + query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	if w.known != nil && w.stamp != "" {
		request.Header.Set("X-Last-Sync", w.stamp)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

// nextNode moves to the next node after a random pause, so that clients of one lost node do not return all at once.
func (w *Watcher) nextNode(ctx context.Context, why, retryAfter string) {
	fmt.Fprintf(os.Stderr, "%s: %s: trying the next node\n", w.nodes[0], why)
	w.nodes = append(w.nodes[1:], w.nodes[0])
	longest := 5 * time.Second
	if w.failures < 6 {
		longest = 100 * time.Millisecond << w.failures
	}
	w.failures++
	pause := time.Duration(rand.Int63n(int64(longest)))
	if seconds, err := strconv.Atoi(retryAfter); err == nil && seconds > 0 {
		if seconds > 60 {
			seconds = 60
		}
		pause += time.Duration(seconds) * time.Second
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

func main() {
	rand.Seed(time.Now().UnixNano()) // not needed from Go 1.20 on
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: go run watch.go NAME URL [URL ...]")
		os.Exit(2)
	}
	watcher := NewWatcher(os.Args[1], os.Args[2:])
	for {
		change, err := watcher.Next(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if change.Version == "" {
			fmt.Println("deleted")
		} else {
			fmt.Printf("%s %s\n", change.Version, change.Data)
		}
	}
}
