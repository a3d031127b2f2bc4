#!/usr/bin/env python3
"""Checks docker/kubernetes, the base and each overlay: against the schemas of Kubernetes, nothing unknown allowed, and
that what their parts say of each other is true. Then takes one rule after the other away, and demands that this is
noticed.

Usage: kubernetes.py VWATCH, the binary whose flags count. Needs kubernetes-validate from PyPI, which has the schemas.

The overlays are merged here, by the part of kustomize that they use: resources, and patches by strategic merge. If
kubectl is installed, its kustomize has to come to the same result.
"""

import copy
import pathlib
import shutil
import subprocess
import sys

import kubernetes_validate
import yaml

MANIFESTS = pathlib.Path(__file__).parent.parent / "docker" / "kubernetes"
OVERLAYS = ["base", "small", "tls", "disk"]
# the oldest that it says it needs, and the newest that the package knows
VERSIONS = ["1.30", kubernetes_validate.latest_version()]
SHUTDOWN_GRACE_S = 10
# by which member the items of a list are the same, in a strategic merge; other lists are replaced
KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}


def kustomized(folder):
    """The documents of a folder with a kustomization.yaml, as `kubectl kustomize` makes them, in the order of the files."""
    rules = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = rules.keys() - {"apiVersion", "kind", "resources", "patches"}
    if unknown or any(patch.keys() != {"path"} for patch in rules.get("patches", [])):
        raise SystemExit(f"{folder}: teach this script to merge {unknown or 'such patches'}")
    documents = []
    for resource in rules["resources"]:
        at = folder / resource
        documents += kustomized(at) if at.is_dir() else yaml.safe_load_all(at.read_text())
    for patch in rules.get("patches", []):
        for change in yaml.safe_load_all((folder / patch["path"]).read_text()):
            (at,) = [at for at, document in enumerate(documents) if name_of(document) == name_of(change)]
            documents[at] = merged(documents[at], change)
    return documents


def name_of(document):
    return document["apiVersion"], document["kind"], document["metadata"]["name"]


def merged(base, change):
    """A map with the members of a change: maps in it are merged, a null takes a member away."""
    result = dict(base)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key] = merged(base[key], value)
        elif key in KEYS and isinstance(base.get(key), list):
            result[key] = merged_list(base[key], value, KEYS[key])
        else:
            result[key] = value
    return result


def merged_list(base, change, key):
    """The items of both, where those with the same key are merged."""
    by_key = {item[key]: item for item in base}
    for item in change:
        by_key[item[key]] = merged(by_key[item[key]], item) if item[key] in by_key else item
    return list(by_key.values())


def sorted_lists(value):
    """The same, without the order of lists that are merged: kustomize puts new items first."""
    if isinstance(value, dict):
        by_key = lambda key, item: sorted(item, key=lambda one: one[KEYS[key]]) if key in KEYS else item
        return {key: sorted_lists(by_key(key, item)) for key, item in value.items()}
    return [sorted_lists(item) for item in value] if isinstance(value, list) else value


def other_opinion(folder, documents):
    """What kubectl makes of the folder, if it is not the same. None if there is no kubectl."""
    if not shutil.which("kubectl"):
        return None
    made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    if made.returncode:
        return [f"kubectl kustomize: {made.stderr.strip()}"]
    theirs = {name_of(document): sorted_lists(document) for document in yaml.safe_load_all(made.stdout)}
    ours = {name_of(document): sorted_lists(document) for document in documents}
    return [f"kubectl has another {name}" for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]


def settings(binary):
    """The names that the environment of a node may have."""
    text = subprocess.run([binary, "serve", "--help"], check=True, capture_output=True, text=True).stdout
    flags = [line.split()[0] for line in text.splitlines() if line.strip().startswith("--")]
    return {"VWATCH_" + flag[2:].split("=")[0].split("[")[0].upper().replace("-", "_") for flag in flags}


def size(text):
    """Bytes, of 512MiB as a node writes it, and of 512Mi as Kubernetes does."""
    number = text.rstrip("KMGiB")
    return int(number) << {"": 0, "Ki": 10, "Mi": 20, "Gi": 30}[text[len(number):].rstrip("B")]


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
    scheme = "https" if "VWATCH_TLS_CERT" in env else "http"
    demand(env["VWATCH_REPLICATE_WITH"] == f"{scheme}://{spec['serviceName']}:8008", "the nodes look elsewhere")
    demand(spec["podManagementPolicy"] == "Parallel", "the nodes wait for each other")
    demand(pod_spec["enableServiceLinks"] is False, "services appear as settings")

    # clients and writers each have theirs
    to = sorted(tuple(p["targetPort"] for p in s["ports"]) for s in services.values() if s is not peers)
    demand(to == [("client",), ("server",)], f"clients and writers: {to}")

    # settings that exist, and files of secrets that are there and nowhere in the manifests
    demand(env.keys() <= known, f"no settings: {env.keys() - known}")
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod_spec["volumes"]}
    demand("VWATCH_CLUSTER_SECRET_FILE" in env, "peers need a secret")
    demand(("VWATCH_TLS_CERT" in env) == ("VWATCH_TLS_KEY" in env), "a certificate needs its key")
    files = {name: value for name, value in env.items() if value and value.startswith("/")}
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in spec.get("volumeClaimTemplates", [])}
    if data := files.pop("VWATCH_DATA_DIR", None):
        mount = mounts.pop(data, {})
        claim = claims.pop(mount.get("name"), {})
        demand(claim.get("accessModes") == ["ReadWriteOnce"], "the data is in no volume of the pod's own")
        demand(mount.get("readOnly", False) is False, "the data cannot be written")
        room = size(claim.get("resources", {}).get("requests", {}).get("storage", "0"))
        demand(room >= 3 * size(env["VWATCH_MAX_SET_BYTES"]), f"{room} bytes are too few for the data")
    demand(not claims, "a claim for nothing")
    for name, file in files.items():
        mount = mounts.get(str(pathlib.PurePosixPath(file).parent), {})
        demand("secret" in volumes.get(mount.get("name"), {}), f"{name} is not mounted where it is read")
        demand(mount.get("readOnly") is True, f"{name} is in a folder that can be written")
    demand(len(mounts) == len(set(pathlib.PurePosixPath(file).parent for file in files.values())), "a mount for nothing")
    demand("VWATCH_CLUSTER_SECRET" not in env and not of_kind("Secret"), "a secret in the open")

    # probes, and time to stop
    for probe, at in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]:
        get = container.get(probe, {}).get("httpGet", {})
        demand(get.get("path") == at and ports.get(get.get("port"), {}).get("protocol") == "TCP", f"{probe}: {get}")
        demand(get.get("scheme", "HTTP") == scheme.upper(), f"{probe} speaks {get.get('scheme')}, and the port {scheme}")
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
    of_set, limit = size(env["VWATCH_MAX_SET_BYTES"]), size(container["resources"]["limits"]["memory"])
    watchers = 4200 * int(env["VWATCH_MAX_WATCHERS"])
    demand(of_set + watchers < limit, f"the set and the watchers may take {of_set + watchers} of {limit} bytes")
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


OF_TLS = [
    ("StatefulSet", [*CONTAINER, "readinessProbe", "httpGet", "scheme"], "HTTP"),
    ("StatefulSet", [*CONTAINER, "volumeMounts", 1, "mountPath"], "/else"),
    ("StatefulSet", [*CONTAINER, "volumeMounts", 2, "readOnly"], False),
    ("StatefulSet", [*POD, "volumes", 2, "secret"], None),
    ("StatefulSet", [*CONTAINER, "env", 1, "value"], "http://vwatch-peers:8008"),
]


OF_DISK = [
    ("StatefulSet", ["spec", "volumeClaimTemplates"], None),
    ("StatefulSet", ["spec", "volumeClaimTemplates", 0, "spec", "accessModes"], ["ReadWriteMany"]),
    ("StatefulSet", ["spec", "volumeClaimTemplates", 0, "spec", "resources", "requests", "storage"], "1Gi"),
]



def main():
    known = settings(sys.argv[1])
    wrong, told = [], []
    for overlay in OVERLAYS:
        documents = kustomized(MANIFESTS / overlay)
        found = check(documents, known)
        opinion = other_opinion(MANIFESTS / overlay, documents)
        found += opinion or []
        mistakes = {"base": MISTAKES, "tls": OF_TLS, "disk": OF_DISK}.get(overlay, [])
        for kind, path, value in mistakes:
            try:
                noticed = check(without(documents, kind, path, value), known)
            except KeyError as error:
                noticed = [f"missing: {error}"]
            if not noticed:
                found.append(f"not noticed: {kind} {path} {value}")
        wrong += [f"{MANIFESTS / overlay}: {line}" for line in found]
        also = "no kubectl to compare with" if opinion is None else "kubectl comes to the same"
        told.append(f"{overlay}: {len(documents)} documents, {len(mistakes)} mistakes were noticed, {also}")
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        print("\n".join([*told, f"all hold by the schemas of {', '.join(VERSIONS)}"]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
