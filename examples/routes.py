#!/usr/bin/env python3
"""A reverse proxy whose routes are names in vwatch: they are written there, and take effect here at once.

    python3 routes.py LISTEN URL [URL ...]    for example: 127.0.0.1:9080 127.0.0.1:8080 127.0.0.2:8080

    vwatch put routes/foo '{"uri": "/get", "upstream": "http://127.0.0.1:8000"}'
    curl 127.0.0.1:9080/get
    vwatch del routes/foo

Needs Python 3.8 or newer, and nothing but its standard library.
"""

import http.client
import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode, urlsplit

PREFIX = "routes/"
POLL = 30.0  # seconds that a node may hold a request
MARGIN = 10.0  # seconds that an answer may take beyond that
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}


class Routes:
    """The routes as vwatch has them, by batches of /v1/watch. They stay in force while no node can be reached."""

    def __init__(self, urls):
        self.nodes = [urlsplit(url if "://" in url else "http://" + url).netloc for url in urls]
        random.shuffle(self.nodes)  # not all data planes at the same node
        self.cursor = None
        self.names = {}  # name -> (revision, route or None), of all that was told since the view began
        self.synced = False  # whether all that stands was told
        self.by_uri = {}  # what requests are answered by

    def follow(self):
        failures = 0
        while True:
            try:
                if not self.batch():
                    raise OSError("it stops")
                failures = 0
            except (OSError, http.client.HTTPException, ValueError) as error:
                # the cursor is good at every node: the next one goes on from it
                print(f"{self.nodes[0]}: {error}: trying the next node", file=sys.stderr, flush=True)
                self.nodes.append(self.nodes.pop(0))
                time.sleep(random.uniform(0.0, min(5.0, 0.1 * 2 ** min(failures, 6))))
                failures += 1

    def batch(self):
        """Asks once, and applies what is told. False if the node is about to stop."""
        query = {"prefix": PREFIX, "data": "text", "timeout": f"{POLL:.0f}s"}
        if self.cursor is not None:
            query["since"] = self.cursor
        connection = http.client.HTTPConnection(self.nodes[0], timeout=POLL + MARGIN)
        try:
            connection.request("GET", "/v1/watch?" + urlencode(query))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"status {response.status}: {body.decode(errors='replace').strip()}")
        answer = json.loads(body)
        for event in answer["events"]:
            if event["type"] == "reset":
                self.names, self.synced = {}, False  # a snapshot follows: until it is complete, the old routes stay
            elif event["type"] == "synced":
                self.synced = True
            elif event["type"] in ("put", "delete"):
                self.apply(event)
        self.cursor = answer["cursor"]
        if self.synced:
            self.by_uri = {route["uri"]: route["upstream"] for _, route in self.names.values() if route}
        return answer["events"] or response.headers.get("Connection") != "close"

    def apply(self, event):
        name, revision, route = event["name"], event["revision"], None
        if name in self.names and revision < self.names[name][0]:
            return  # a node that is behind may tell an older state first
        if event["type"] == "put":
            try:
                route = json.loads(event["data"])
                route = {"uri": str(route["uri"]), "upstream": urlsplit(str(route["upstream"])).netloc}
            except (ValueError, KeyError, TypeError) as error:
                print(f"{name} is no route and has no effect: {error!r}", file=sys.stderr, flush=True)
        self.names[name] = (revision, route)
        delay = (time.time_ns() // 1000 - revision) / 1000
        print(f"{event['type']} {name} {route}, written {delay:.1f} ms ago", flush=True)


class Proxy(BaseHTTPRequestHandler):
    routes = None
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        upstream = self.routes.by_uri.get(urlsplit(self.path).path)
        if upstream is None:
            return self.answer(404, [], b"no route\n")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            connection = http.client.HTTPConnection(upstream, timeout=10)
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            status, fields, body = response.status, response.getheaders(), response.read()
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            status, fields, body = 502, [], f"no answer of {upstream}: {error}\n".encode()
        self.answer(status, fields, body)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP | {"date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = forward

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    host, port = sys.argv[1].rsplit(":", 1)
    Proxy.routes = Routes(sys.argv[2:])
    threading.Thread(target=Proxy.routes.follow, daemon=True).start()
    ThreadingHTTPServer((host, int(port)), Proxy).serve_forever()
