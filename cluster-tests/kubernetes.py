#!/usr/bin/env python3
"""Checks docker/kubernetes.yaml: against the schemas of Kubernetes, nothing unknown allowed, and that what its parts say
of each other is true. Then takes one rule after the other away, and demands that this is noticed.

Usage: kubernetes.py VWATCH, the binary whose flags count. Needs kubernetes-validate from PyPI, which has the schemas.
"""

import copy
import pathlib
import subprocess
import sys

import kubernetes_validate
import yaml

MANIFEST = pathlib.Path(__file__).parent.parent / "docker" / "kubernetes.yaml"
# the oldest that it says it needs, and the newest that the package knows
VERSIONS = ["1.30", kubernetes_validate.latest_version()]
SHUTDOWN_GRACE_S = 10


def settings(binary):
    """The names that the environment of a node may have."""
    text = subprocess.run([binary, "serve", "--help"], check=True, capture_output=True, text=True).stdout
    flags = [line.split()[0] for line in text.splitlines() if line.strip().startswith("--")]
    return {"VWATCH_" + flag[2:].split("=")[0].split("[")[0].upper().replace("-", "_") for flag in flags}


def check(documents, known):
    """What is wrong, as lines."""
    wrong = []

    def demand(holds, what):
        if not holds:
            wrong.append(what)

    for document in documents:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong.append(f"{document['kind']} by the schema of {version}: {error.message}")
    if wrong:
        return wrong

    of_kind = lambda kind: [d for d in documents if d["kind"] == kind]
    (stateful,), (budget,) = of_kind("StatefulSet"), of_kind("PodDisruptionBudget")
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind("Service")}
    spec, pod = stateful["spec"], stateful["spec"]["template"]
    labels, pod_spec = pod["metadata"]["labels"], pod["spec"]
    (container,) = pod_spec["containers"]
    ports = {port["name"]: port for port in container["ports"]}
    env = {one["name"]: one.get("value") for one in container["env"]}

    # each selector selects the pods
    selectors = [(f"service {name}", service["selector"]) for name, service in services.items()]
    selectors += [("budget", budget["spec"]["selector"]["matchLabels"]), ("set", spec["selector"]["matchLabels"])]
    spreads = pod_spec["topologySpreadConstraints"]
    selectors += [("spread", spread["labelSelector"]["matchLabels"]) for spread in spreads]
    for owner, selector in selectors:
        demand(selector and selector.items() <= labels.items(), f"{owner} selects no pod of the set: {selector}")
    for name, service in services.items():
        for port in service["ports"]:
            to = ports.get(port["targetPort"], {})
            demand(to.get("protocol") == port["protocol"], f"service {name} goes to no port: {port}")

    # the nodes find each other
    peers = services[spec["serviceName"]]
    demand(peers.get("clusterIP") == "None", "the service of the peers is not headless")
    demand(peers.get("publishNotReadyAddresses") is True, "the service of the peers leaves out nodes that join")
    open_to_peers = {(port["port"], port["protocol"]) for port in peers["ports"]}
    demand(open_to_peers == {(8008, "TCP"), (8008, "UDP")}, f"peers need TCP and UDP: {open_to_peers}")
    demand(env["VWATCH_REPLICATE_WITH"] == f"http://{spec['serviceName']}:8008", "the nodes look elsewhere")
    demand(spec["podManagementPolicy"] == "Parallel", "the nodes wait for each other")
    demand(pod_spec["enableServiceLinks"] is False, "services appear as settings")

    # clients and writers each have theirs
    to = sorted(tuple(p["targetPort"] for p in s["ports"]) for s in services.values() if s is not peers)
    demand(to == [("client",), ("server",)], f"clients and writers: {to}")

    # settings that exist, and a secret that is there and nowhere in the file
    demand(env.keys() <= known, f"no settings: {env.keys() - known}")
    path = pathlib.PurePosixPath(env["VWATCH_CLUSTER_SECRET_FILE"])
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod_spec["volumes"]}
    mount = mounts.get(str(path.parent), {})
    demand("secret" in volumes.get(mount.get("name"), {}), "the secret is not mounted where it is read")
    demand("VWATCH_CLUSTER_SECRET" not in env and not of_kind("Secret"), "a secret in the open")

    # probes, and time to stop
    for probe, at in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]:
        get = container.get(probe, {}).get("httpGet", {})
        demand(get.get("path") == at and ports.get(get.get("port"), {}).get("protocol") == "TCP", f"{probe}: {get}")
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    demand(pod_spec["terminationGracePeriodSeconds"] > before + SHUTDOWN_GRACE_S, "killed before it has stopped")
    demand(budget["spec"].get("maxUnavailable") == 1, "more than one node may go at once")

    # what it may do, and how much
    of_pod, own = pod_spec["securityContext"], container["securityContext"]
    demand(of_pod.get("runAsNonRoot") is True and of_pod.get("runAsUser", 0) > 0, "it may run as root")
    demand(own.get("readOnlyRootFilesystem") is True, "it may write to its image")
    demand(own.get("allowPrivilegeEscalation") is False and not own.get("privileged"), "it may get privileges")
    demand(own.get("capabilities", {}).get("drop") == ["ALL"], "it has capabilities")
    demand({"cpu", "memory"} <= container["resources"]["requests"].keys(), "nothing is reserved")
    demand("memory" in container["resources"]["limits"], "memory without limit")
    spread_over = {spread["topologyKey"] for spread in spreads}
    demand(spread_over == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}, f"spread over {spread_over}")
    return wrong


def without(documents, kind, path, value=None):
    """The manifest with one thing else, or gone."""
    changed = copy.deepcopy(documents)
    at = next(document for document in changed if document["kind"] == kind)
    for step in path[:-1]:
        at = at[step]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return changed


POD = ["spec", "template", "spec"]
CONTAINER = [*POD, "containers", 0]
MISTAKES = [
    ("Service", ["spec", "publishNotReadyAddresses"], None),
    ("Service", ["spec", "clusterIP"], None),
    ("Service", ["spec", "ports", 1], None),
    ("Service", ["spec", "ports", 0, "targetPort"], "client-port"),
    ("Service", ["spec", "ports", 0, "port"], "8008"),
    ("Service", ["spec", "selector"], {"app": "else"}),
    ("PodDisruptionBudget", ["spec", "selector", "matchLabels"], {"app": "else"}),
    ("StatefulSet", ["spec", "selector"], None),
    ("StatefulSet", ["spec", "replica"], 3),
    ("StatefulSet", [*POD, "enableServiceLinks"], True),
    ("StatefulSet", [*POD, "terminationGracePeriodSeconds"], 15),
    ("StatefulSet", [*POD, "securityContext", "runAsNonRoot"], None),
    ("StatefulSet", [*POD, "volumes", 0, "name"], "else"),
    ("StatefulSet", [*CONTAINER, "env", 1, "name"], "VWATCH_REPLICATE"),
    ("StatefulSet", [*CONTAINER, "env", 1, "value"], "http://else:8008"),
    ("StatefulSet", [*CONTAINER, "readinessProbe"], None),
    ("StatefulSet", [*CONTAINER, "livenessProbe", "httpGet", "port"], "gossip"),
    ("StatefulSet", [*CONTAINER, "securityContext", "readOnlyRootFilesystem"], False),
]


def main():
    known = settings(sys.argv[1])
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    wrong = check(documents, known)
    for kind, path, value in MISTAKES:
        try:
            noticed = check(without(documents, kind, path, value), known)
        except KeyError as error:
            noticed = [f"missing: {error}"]
        if not noticed:
            wrong.append(f"not noticed: {kind} {path} {value}")
    for line in wrong:
        print(f"{MANIFEST}: {line}", file=sys.stderr)
    if not wrong:
        print(f"{len(documents)} documents hold by the schemas of {', '.join(VERSIONS)}; "
              f"{len(MISTAKES)} mistakes were noticed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
