"""Validate deploy/ against KubeRay's published definitions, which are not part of this project.

FOLDER has `ray.io_rayclusters.yaml` and `ray.io_rayjobs.yaml` of KubeRay's `crd/bases`. They also
define pods, services and claims as Kubernetes does. Unknown fields are errors.

Exit status: 0 if every document fits or has no definition there, 1 if one does not fit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
HEAD = ("RayCluster", "headGroupSpec")
VOLUME = (*HEAD, "template", "spec", "volumes", "ephemeral", "volumeClaimTemplate")
# Where KubeRay's definitions have the spec of a kind, and which part of ours it defines.
PLACES = {
    "RayCluster": ("RayCluster",),
    "RayJob": ("RayJob",),
    "Service": (*HEAD, "headService", "spec"),
    "PersistentVolumeClaim": (*VOLUME, "spec"),
    "Deployment": (*HEAD, "template"),
}


def strict(schema: Any) -> Any:
    """Return a schema as Kubernetes means it: other fields than the listed ones are errors."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if found.pop("x-kubernetes-int-or-string", False):
        found["type"] = ["integer", "string"]
    if isinstance(found.get("properties"), dict):
        found.setdefault("additionalProperties", False)
    return found


def definitions(folder: Path) -> dict[str, Any]:
    """Read the schema of the spec of each kind that KubeRay defines."""
    found = {}
    for name in ("rayclusters", "rayjobs"):
        crd = yaml.load((folder / f"ray.io_{name}.yaml").read_text(), yaml.CSafeLoader)["spec"]
        (version,) = [one for one in crd["versions"] if one["name"] == "v1"]
        schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        found[crd["names"]["kind"]] = strict(schema)
    return found


def errors(document: dict[str, Any], known: dict[str, Any]) -> list[str]:
    """Return what does not fit in a document, by place."""
    kind, *below = PLACES[document["kind"]]
    schema = known[kind]
    for key in below:
        schema = schema["properties"][key]
        schema = schema.get("items", schema)
    spec = document["spec"]
    given = spec["template"] if document["kind"] == "Deployment" else spec
    return [f"{one.json_path}: {one.message}" for one in Draft7Validator(schema).iter_errors(given)]


def main() -> int:
    """Print a line for each document."""
    known, failed = definitions(Path(sys.argv[1])), False
    for path in sorted(DEPLOY.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if "kind" not in document:
                continue
            has = document["kind"] in PLACES
            found = errors(document, known) if has else []
            failed |= bool(found)
            said = "; ".join(found) or ("fits" if has else "no definition, not checked")
            print(f"{document['kind']} {document['metadata']['name']}: {said[:400]}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
