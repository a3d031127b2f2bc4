#!/usr/bin/env python3
"""Asks nodes what their own /openapi.json says can be asked, by schemathesis, and checks that they answer as it says.

Usage: schemathesis_run.py VWATCH [EXAMPLES [SEED]]

EXAMPLES is how many requests are made of each operation and kind: right ones, and wrong ones. The default is a few, so
that CI takes some seconds; 200 take minutes. The same seed makes the same requests. What is checked of each answer:

  its status is described for the operation, with its media type, the headers that it always has, and members of JSON
  an error has a code that is described for its status, and one line of text
  no error of the node: of 5xx only a described 503, 504 or 507

Needs schemathesis from PyPI, which .ci/run installs.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import hypothesis
import requests
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks

MAY_FAIL_WITH = {503, 504, 507}
# a request that waits longer than this hangs
LIMIT_S = 20
# bodies of peers are sealed: here they are bytes, and refused
schemathesis.serializer.alias(["application/x-bincode"], "application/octet-stream")
FEW = 4

TOKENS = """[[token]]
name = "anonymous"
grants = [{ verbs = ["read", "write"], prefix = "a" }, { verbs = ["observe"] }]
"""
# Each kind of node has answers that the others do not have. A part of the examples is for the kinds behind the first.
ALL = ["--block-for=20ms", "--page=client", "--lease-max-ttl=2s", "--log-level=WARN"]
KINDS = {
    "alone": ([], 1.0),
    "with tokens": (["--tokens-file={tokens}"], 0.25),
    "with small limits": (["--max-set-bytes=2KiB", "--max-namespaces=1", "--max-watchers=1", "--data-limit-bytes=16",
                           "--history-versions=1"], 0.5),
    "a follower": (["--fill-from=http://127.0.0.1:1"], 0.25),
    "a mirror": (["--fill-from=http://127.0.0.1:1", "--fill-strategy=FILL_MIRROR", "--fill-prefix=a"], 0.25),
}


class Node:
    def __init__(self, vwatch, flags, folder):
        sockets = [socket.socket() for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        self.ports = {name: one.getsockname()[1] for name, one in zip(("client", "server"), sockets)}
        for one in sockets:
            one.close()
        tokens = os.path.join(folder, "tokens.toml")
        with open(tokens, "w") as file:
            file.write(TOKENS)
        listen = [f"--listen-{name}=127.0.0.1:{port}" for name, port in self.ports.items()]
        clean = {name: text for name, text in os.environ.items() if not name.startswith("VWATCH_")}
        self.log = open(os.path.join(folder, "log"), "w+b")
        self.process = subprocess.Popen([vwatch, "serve", *listen, *ALL, *(f.format(tokens=tokens) for f in flags)],
                                        env=clean, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        until = time.monotonic() + LIMIT_S
        while not self.answers():
            if time.monotonic() > until or self.process.poll() is not None:
                raise SystemExit(f"the node does not answer:\n{self.said()}")
            time.sleep(0.05)

    def answers(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.ports['server']}/healthz", timeout=1).status == 200
        except OSError:
            return False

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def end(self):
        self.process.kill()
        self.process.wait()
        return self.said()


def codes(operation, status):
    """The codes of errors that are described for a status."""
    described = operation.definition.raw["responses"].get(str(status), {})
    return described.get("headers", {}).get("X-Vwatch-Error", {}).get("schema", {}).get("enum", [])


def faults(case, response):
    """What is wrong with an answer, as lines."""
    operation, status = case.operation, response.status_code
    code = response.headers.get("x-vwatch-error", [None])[0]
    if status >= 500 and status not in MAY_FAIL_WITH:
        yield f"status {status}: {response.text[:200]}"
    if str(status) not in operation.definition.raw["responses"]:
        yield f"status {status} ({code}) is not described: {response.text[:120]}"
        return
    if status >= 400:
        if code not in codes(operation, status):
            yield f"the code {code} is not described for {status}: {response.text[:120]}"
            return
        if case.method.upper() != "HEAD" and not (response.text.endswith("\n") and response.text.count("\n") == 1):
            yield f"the error is not one line: {response.text[:200]!r}"
    if case.method.upper() == "HEAD":
        return
    try:
        case.validate_response(response, checks=[
            openapi_checks.content_type_conformance,
            openapi_checks.response_headers_conformance,
            openapi_checks.response_schema_conformance,
        ])
    except (Failure, FailureGroup) as failure:
        yield f"status {status}: {failure}"


def can_be_wrong(operation):
    """Whether a value can break the description. Where none can, the search for one would take seconds."""
    raw = operation.definition.raw
    schemas = [one["schema"] for one in raw.get("parameters", []) if one["in"] == "query"]
    schemas += [content.get("schema", {}) for content in raw.get("requestBody", {}).get("content", {}).values()]
    return any("enum" in schema or schema.get("type") in ("integer", "object") for schema in schemas)


def requests_of(operation, mode, examples, seed):
    """The requests of an operation, right ones or wrong ones: the same for the same seed."""
    made = []

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=examples, database=None, deadline=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def make(case):
        made.append(case)

    if mode is GenerationMode.POSITIVE or can_be_wrong(operation):
        make()
    return made


def requests_of_port(description, examples, seed, is_short):
    """The requests of each operation and kind. A short run leaves out what others stand for: HEAD, and namespaces."""
    made = []
    for result in schemathesis.openapi.from_dict(description).get_all_operations():
        operation = result.ok()
        is_twin = operation.method == "head" or "{namespace}" in operation.path and "/events/" not in operation.path
        if not (is_short and is_twin):
            made += [requests_of(operation, mode, examples, seed) for mode in GenerationMode]
    return made


def send(case, base, session, found, statuses):
    """Sends a request, and notes what is wrong with the answer: one of each kind is enough."""
    label = case.operation.label
    try:
        response = case.call(base_url=base, session=session, timeout=LIMIT_S)
    except requests.RequestException as error:
        found.setdefault((label, f"no answer: {type(error).__name__}"), case.as_curl_command())
        return
    statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
    for fault in faults(case, response):
        found.setdefault((label, fault.split(":")[0]), f"{fault}\n    {case.as_curl_command()}")


def run_kind(node, made, share, found):
    """Sends a share of the requests to a node. Returns the answers by status."""
    statuses, session = {}, requests.Session()
    for port, address in node.ports.items():
        for cases in made[port]:
            for case in cases[:max(1, round(len(cases) * share))]:
                send(case, f"http://127.0.0.1:{address}", session, found, statuses)
    return statuses


def main():
    if not 2 <= len(sys.argv) <= 4:
        raise SystemExit(__doc__)
    vwatch, rest = os.path.abspath(sys.argv[1]), [int(text) for text in sys.argv[2:]]
    examples, seed = rest + [FEW, 1][len(rest):]
    load_all_checks()
    found, made, began = {}, {}, time.monotonic()
    for kind, (flags, share) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            node = Node(vwatch, flags, folder)
            try:
                for port, address in node.ports.items():
                    description = requests.get(f"http://127.0.0.1:{address}/openapi.json", timeout=LIMIT_S).json()
                    # all kinds have the same
                    made[port] = made.get(port) or requests_of_port(description, examples, seed, not rest)
                made_after = time.monotonic() - began
                statuses = run_kind(node, made, share, found)
                if node.process.poll() is not None:
                    found[kind, "the node has ended"] = "its log is below"
            finally:
                said = node.end()
            if "panicked" in said:
                found[kind, "a panic"] = said
        counts = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        print(f"{kind:<18} after {made_after:5.1f} s, answers by status: {counts}")
    print(f"{time.monotonic() - began:.1f} s")
    for (where, what), example in found.items():
        print(f"\n{where}: {what}\n    {example}")
    sys.exit(1 if found else 0)


main()
