#!/usr/bin/env python3
"""Watch one name at one or more vwatch nodes, and print a line for each change.

    python3 watch.py NAME URL [URL ...]     for example: repo/artifact:latest http://127.0.0.1:8080

Needs Python 3.8 or newer, and nothing but its standard library.
"""

import http.client
import random
import sys
import time
from urllib.parse import quote, urlencode, urlsplit

POLL = 30.0  # seconds that a node may hold a request; at most 60 by default
MARGIN = 10.0  # seconds that an answer may take beyond that
TEMPORARY = {408, 409, 429, 500, 502, 503, 504}


class Watcher:
    """Knows what was reported last, and asks one node at a time for the next change."""

    def __init__(self, name, urls):
        self.name = name
        self.nodes = [urlsplit(url if "://" in url else "http://" + url).netloc for url in urls]
        random.shuffle(self.nodes)  # not all clients at the same node
        self.connection = None
        self.known = None  # None: nothing is known; "": the name does not exist; else its version
        self.stamp = None  # newest X-Last-Sync that was seen: no node may answer with an older state
        self.reported = None
        self.failures = 0

    def changes(self):
        """Yields (version, data) for each change, and (None, b"") for a delete."""
        while True:
            started = time.monotonic()
            try:
                status, headers, body = self.request()
            except (OSError, http.client.HTTPException) as error:
                self.next_node(f"no answer: {error}")
                continue
            stamp, code = headers.get("X-Last-Sync"), headers.get("X-Vwatch-Error")
            if (status in (200, 410) and stamp is None) or (status == 404 and code is None):
                self.next_node("the answer is not from a vwatch node")
            elif status in (200, 410) or (status == 404 and code == "not-found"):
                if headers.get("X-Vwatch-Genesis") or headers.get("X-Vwatch-Lost-Since"):
                    self.stamp = None  # the cluster began a new set, or has lost what was seen
                if stamp:
                    self.stamp = int(stamp)
                asks_otherwise = status == 404 and self.known != ""
                self.known = headers["ETag"].strip('"') if status == 200 else ""
                news = self.known if status == 200 else None
                if status != 404 and (news or "deleted") != self.reported:
                    self.reported = news or "deleted"
                    self.failures = 0
                    yield news, body if news else b""
                elif time.monotonic() - started >= POLL / 2 or asks_otherwise:
                    self.failures = 0
                else:
                    self.next_node("answered early without a change: it may be stopping")
            elif status in TEMPORARY:
                self.next_node(f"status {status}", headers.get("Retry-After"))
            else:
                raise SystemExit(f"{self.name}: status {status}: {body.decode(errors='replace').strip()}")

    def request(self):
        query = {"timeout": f"{POLL:.0f}s"}
        headers = {}
        if self.known is not None:
            query["version"] = self.known
            if self.stamp is not None:
                headers["X-Last-Sync"] = str(self.stamp)
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.nodes[0], timeout=POLL + MARGIN)
        path = "/v1/versions/" + quote(self.name, safe="/:") + "?" + urlencode(query)
        self.connection.request("GET", path, headers=headers)
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def next_node(self, why, retry_after=None):
        """Moves to the next node after a random pause, so that clients of one lost node do not return all at once."""
        print(f"{self.nodes[0]}: {why}: trying the next node", file=sys.stderr)
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        self.nodes.append(self.nodes.pop(0))
        longest = min(5.0, 0.1 * 2 ** min(self.failures, 10))
        self.failures += 1
        asked_for = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        time.sleep(min(asked_for, 60.0) + random.uniform(0.0, longest))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    for version, data in Watcher(sys.argv[1], sys.argv[2:]).changes():
        print("deleted" if version is None else f"{version} {data.decode(errors='replace')}", flush=True)
