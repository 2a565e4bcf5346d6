"""What deploy/ says fits the project and Kubernetes; an audit never calls well what is unknown."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

from pipeline.experiments import compose
from tests.places import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted([*DEPLOY.glob("kuberay/*.yaml"), DEPLOY / "mlflow" / "kubernetes.yaml"])
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
DIGEST = r"@sha256:[0-9a-f]{64}"
SECRET_KEYS = re.compile(r"password|token|secret|access_key", re.IGNORECASE)


def documents() -> list[Any]:
    """Each document of each manifest, named for its kind and name."""
    found = []
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            name = f"{document['kind']}/{document['metadata']['name']}"
            found.append(pytest.param(document, id=name))
    return found


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, dict | list):
            yield from nodes(child)


def pods(document: Any) -> list[dict[str, Any]]:
    return [node for node in nodes(document) if "containers" in node]


def version(package: str) -> str:
    pinned = re.search(rf"^{package}==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    return pinned.group(1)


# Fields of KubeRay 1.7 and Kubernetes that deploy/ uses, by what holds them; * if required. CI
# validates against the published definitions too, where it has them (.ci/manifests.py).
CLUSTER = """headGroupSpec* rayVersion authOptions enableInTreeAutoscaling autoscalerOptions
  workerGroupSpecs"""
FIELDS = {
    "RayCluster": CLUSTER,
    "rayClusterSpec": CLUSTER,
    "RayJob": """rayClusterSpec* entrypoint* submissionMode backoffLimit submitterConfig
      submitterPodTemplate* activeDeadlineSeconds shutdownAfterJobFinishes
      ttlSecondsAfterFinished""",
    "Deployment": "selector* template* replicas strategy",
    "Service": "ports* selector type",
    "PodDisruptionBudget": "minAvailable* selector*",
    "PersistentVolumeClaim": "accessModes* resources*",
    "NetworkPolicy": "podSelector* policyTypes ingress",
    "headGroupSpec": "template* rayStartParams serviceType",
    "workerGroupSpecs": "groupName* minReplicas* maxReplicas* template* replicas rayStartParams",
    "authOptions": "mode secretName",
    "autoscalerOptions": "version* idleTimeoutSeconds resources* securityContext*",
    "submitterConfig": "backoffLimit",
    "template": "spec* metadata",
    "spec": """containers* securityContext automountServiceAccountToken enableServiceLinks
      restartPolicy tolerations terminationGracePeriodSeconds volumes""",
    "containers": """name* image* imagePullPolicy command args workingDir env envFrom ports
      resources securityContext volumeMounts startupProbe readinessProbe livenessProbe""",
    "env": "name* value valueFrom",
    "envFrom": "secretRef*",
    "volumeMounts": "name* mountPath*",
    "volumes": "name* emptyDir persistentVolumeClaim",
    "resources": "requests limits",
    "tolerations": "key operator value effect",
}


def misfits(value: Any, holder: str) -> Iterator[str]:
    """What a part of a manifest lacks of its holder's fields, or has beyond them."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            fields = FIELDS.get(holder, "").split()
            known = {field.rstrip("*") for field in fields} or one.keys()
            required = {field[:-1] for field in fields if field.endswith("*")}
            yield from (
                f"{holder}: {key}" for key in (one.keys() - known) | (required - one.keys())
            )
            for key, child in one.items():
                yield from misfits(child, key)


@pytest.mark.parametrize("document", documents())
def test_fields_are_those_of_kubernetes_and_kuberay(document: Any) -> None:
    assert list(misfits(document["spec"], document["kind"])) == []
    for node in nodes(document):  # a typing error is found
        for key in node.keys() & {"template", "containers", "env", "volumeMounts", "selector"}:
            node[f"{key}s"] = node.pop(key)
            assert list(misfits(document["spec"], document["kind"]))
            node[key] = node.pop(f"{key}s")


@pytest.mark.parametrize("document", documents())
def test_nothing_listens_outside_the_cluster(document: Any) -> None:
    for node in nodes(document):
        assert "hostPort" not in node and "nodePort" not in node and not node.get("hostNetwork")
        assert node.get("type") not in ("LoadBalancer", "NodePort")
        assert node.get("serviceType", "ClusterIP") == "ClusterIP"
    assert document["kind"] not in ("Ingress", "Secret"), "secrets are the user's to make"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_has_a_value(path: Path) -> None:
    if path.suffix == ".yaml":
        for document in yaml.safe_load_all(path.read_text()):
            for node in nodes(document):
                name = str(node.get("name", ""))
                assert not ("value" in node and SECRET_KEYS.search(name)), name
                for key, value in node.items():
                    if SECRET_KEYS.search(str(key)) and key.isupper():
                        assert str(value).startswith("${"), key
    assert not re.search(r"://[^/\s:@]+:(?!\$)[^/\s@]+@", path.read_text()), "a password in a URI"


@pytest.mark.parametrize("document", documents())
def test_pods(document: Any) -> None:
    for pod in pods(document):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert re.fullmatch(rf"arcore:0\.2\.0(-gpu)?|postgres:17{DIGEST}", container["image"])
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
            if document["kind"] == "Deployment":  # KubeRay adds those of Ray's pods
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names))


def test_the_claims_that_are_mounted_exist() -> None:
    found = [parameter.values[0] for parameter in documents()]
    claims = {d["metadata"]["name"] for d in found if d["kind"] == "PersistentVolumeClaim"}
    mounted = {n["claimName"] for d in found for n in nodes(d) if "claimName" in n}
    assert mounted == claims


def test_services_find_their_pods() -> None:
    found = list(yaml.safe_load_all((DEPLOY / "mlflow" / "kubernetes.yaml").read_text()))
    services = [d for d in found if d["kind"] == "Service"]
    assert services
    for service in services:
        templates = [d["spec"]["template"] for d in found if d["kind"] == "Deployment"]
        matched = [t for t in templates if t["metadata"]["labels"] == service["spec"]["selector"]]
        ports = {p["name"] for t in matched for c in t["spec"]["containers"] for p in c["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} == ports


def test_policies_say_who_reaches_each_pod() -> None:
    found = [parameter.values[0] for parameter in documents()]
    policies = [d["spec"] for d in found if d["kind"] == "NetworkPolicy"]
    selected = [policy["podSelector"]["matchLabels"] for policy in policies]
    deployed = [d["spec"]["selector"]["matchLabels"] for d in found if d["kind"] == "Deployment"]
    assert all(labels in selected for labels in [{"ray.io/is-ray-node": "yes"}, *deployed])
    for policy in policies:
        assert policy["policyTypes"] == ["Ingress"] and all(r["from"] for r in policy["ingress"])


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_ray(name: str) -> None:
    spec = next(yaml.safe_load_all((DEPLOY / "kuberay" / f"{name}.yaml").read_text()))["spec"]
    spec = spec.get("rayClusterSpec", spec)
    assert spec["rayVersion"] == version("ray")
    assert spec["authOptions"] == {"mode": "token", "secretName": "arcore-ray-token"}
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        volumes = {v["name"]: v for v in group["template"]["spec"]["volumes"]}
        (size,) = re.findall(r"^(\d+)Gi$", volumes["shm"]["emptyDir"]["sizeLimit"])
        store = int(group["rayStartParams"]["object-store-memory"])
        assert store <= int(size) << 30, "Ray would put it on the pod's disk"
    for pod in pods(spec):
        variables = {v["name"]: v["value"] for v in pod["containers"][0]["env"]}
        assert variables["RAY_USAGE_STATS_ENABLED"] == "0"
        storage = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
        assert variables["ARCORE_STORAGE"] == storage["storage"]


def test_the_job_runs_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (DEPLOY / "kuberay" / "rayjob.yaml").read_text()
    entrypoint = next(yaml.safe_load_all(text))["spec"]["entrypoint"]
    assert "\n" not in entrypoint
    commands = re.findall(r"python -m (stages\.\w+) ([\w-]+)([^&']*)", entrypoint)
    assert len(commands) == entrypoint.count("python -m")
    for stage, name, overrides in commands:
        importlib.import_module(stage)
        if stage == "stages.train":
            compose.load(name, overrides.split())


def test_the_image_copies_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")
    for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists() and f"!{name}" in ignored
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["1000"]
    owned = re.findall(r"--owner=ray --group=ray (.*)$", text, re.MULTILINE)
    assert owned == ["/mnt/artifacts", ".dvc/tmp .dvc/cache .dvc/site-cache"], "nothing that runs"
    assert "chown" not in text
    minor = re.search(rf"^FROM python:3\.(\d+)-slim{DIGEST}$", text, re.MULTILINE)
    assert minor is not None and int(minor.group(1)) >= 11


def test_the_image_installs_the_versions_of_the_tests_by_their_hashes() -> None:
    locked = {}
    texts = [(DEPLOY / f"{name}.lock").read_text().rstrip() for name in ("requirements", "torch")]
    for entry in (one for text in texts for one in re.split(r"\n(?=\S)", text)[2:]):  # no comment
        first, *hashes = entry.split(" \\\n    --hash=")
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), entry
        locked.update([first.split("==")])
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]
    )
    both = {name for name in tested.keys() & locked.keys() if not name.startswith("boto")}
    assert {name: locked[name] for name in both} == {name: tested[name] for name in both}
    assert len(both) > 150, "run `make image-lock`"
    installs = re.findall('pip install (.*?)[\\n"]', (DEPLOY / "Dockerfile").read_text())
    assert ["--require-hashes" in one for one in installs] == [True, True, False, False]
    assert f"torch=={locked['torch']}\n" in (DEPLOY / "requirements.in").read_text()


def test_compose_binds_loopback_and_bounds_what_it_starts() -> None:
    services = yaml.safe_load((DEPLOY / "mlflow" / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert name == "mlflow" or re.search(f"{DIGEST}$", service["image"])
        assert {"healthcheck", "mem_limit", "pids_limit", "security_opt"} <= service.keys()
        assert service["cap_drop"] == ["ALL"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["kubernetes.yaml", "compose.yaml"])
def test_the_image_has_the_driver_of_mlflows_store(name: str) -> None:
    """SQLAlchemy 2.1 takes psycopg 3 for a bare `postgresql://`."""
    (uri,) = re.findall(r"postgresql\S*://\S*", (DEPLOY / "mlflow" / name).read_text())
    driver = make_url(uri).get_dialect().driver
    assert f"\n{driver}-binary==" in (DEPLOY / "requirements.lock").read_text()


def test_the_runtime_environment_of_a_plain_job() -> None:
    from ray.runtime_env import RuntimeEnv

    described = yaml.safe_load((DEPLOY / "job.yaml").read_text())
    assert RuntimeEnv(**described).env_vars() == described["env_vars"]
    folder = ROOT / described["env_vars"]["DVC_GLOBAL_CONFIG_DIR"]
    assert "no_scm = true" in (folder / "config").read_text()


def test_what_a_plain_job_ships() -> None:
    from pathspec import PathSpec

    spec = PathSpec.from_lines("gitignore", (ROOT / ".rayignore").read_text().splitlines())
    left = [
        ".git", ".dvc/cache", ".dvc/tmp", ".dvc/site-cache", ".dvc/config.local", "tests",
        "results", "benchmarks", "docs", ".env", "a/b.pem", "credentials.json",
    ]  # fmt: skip
    assert [name for name in left if not spec.match_file(name)] == []
    sent = [
        ".dvc", ".dvc/config", ".dvc/.gitignore", "deploy/job.yaml", "deploy/dvc/config",
        "dvc.yaml", "stages/train.py", "pipeline/conf/dataset/digits.yaml", "arcore/models/made.py",
    ]  # fmt: skip
    assert [name for name in sent if spec.match_file(name)] == []


WELL = {"name": "a", "version": "1", "vulns": []}
ILL = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


def audit(text: str) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / ".ci/audit.py")]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("dependencies", "status", "said"),
    [
        ([WELL, WELL], 0, "2 of 2 pinned dependencies looked up, 0 known vulnerabilities"),
        ([WELL, ILL], 1, "b 2: PYSEC-1, mended in 3"),
        ([WELL, UNKNOWN], 2, "1 of 2 pinned dependencies looked up"),
        ([ILL, UNKNOWN], 1, "the source knows nothing of c"),
        ([], 2, "0 of 0"),
    ],
)
def test_reports(dependencies: list[dict[str, Any]], status: int, said: str) -> None:
    found, output = audit(json.dumps({"dependencies": dependencies}))
    assert found == status and said in output


@pytest.mark.parametrize("text", ["", "Connection refused", "[]", '{"dependencies": 3}'])
def test_without_a_report_it_says_so(text: str) -> None:
    status, output = audit(text)
    assert status == 2 and "no report: is the advisory source reachable?" in output
