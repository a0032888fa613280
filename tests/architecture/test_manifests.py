"""What k8s/ renders to: valid for KubeRay's own schema, and as closed as the restricted pod security asks."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from distkeras.config import load_config

ROOT = Path(__file__).parent.parent.parent
SCHEMA = ROOT.parent / "shared" / "crds" / "ray.io_rayjobs.yaml"
RENDERED = ["k8s/base", "k8s/overlays/cpu", "k8s/overlays/gpu"]
Node = dict[str, Any]

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
needs_schema = pytest.mark.skipif(
    not SCHEMA.exists(), reason="KubeRay's CRDs are not beside the project (../shared/crds)"
)


def render(folder: str) -> list[Node]:
    command = ["kubectl", "kustomize", folder]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def of_kind(kind: str, manifests: list[Node]) -> Node:
    [found] = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def strict(schema: Node) -> Node:
    """Makes a CRD's schema refuse what the API server would silently drop, and allow what it says in its own way."""
    schema = {key: strict(value) if isinstance(value, dict) else value for key, value in schema.items()}
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            schema[key] = [strict(part) for part in schema[key]]
    if "properties" in schema and "additionalProperties" not in schema:
        schema["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
    return schema


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    versions = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"]
    [schema] = [version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1"]
    return jsonschema.Draft202012Validator(strict(schema))


def problems(validator: jsonschema.Draft202012Validator, manifest: Node) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


@pytest.fixture(scope="module", params=RENDERED)
def manifests(request: pytest.FixtureRequest) -> list[Node]:
    return render(request.param)


def pods(job: Node) -> Iterator[Node]:
    cluster = job["spec"]["rayClusterSpec"]
    yield job["spec"]["submitterPodTemplate"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]


@needs_kubectl
@needs_schema
def test_the_job_is_valid_for_kuberay(
    manifests: list[Node], validator: jsonschema.Draft202012Validator
) -> None:
    assert problems(validator, of_kind("RayJob", manifests)) == []


@needs_kubectl
@needs_schema
@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("spec", "shutdownAfterJobFinished"), True, "shutdownAfterJobFinished"),
        (("spec", "backoffLimit"), "3", "not of type 'integer'"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens", "is not one of"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "not of type 'string'"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "imag"), "x", "imag"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "volumes", 0, "a"), {}, "'a'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_job_is_found(
    path: tuple[str | int, ...],
    value: object,
    expected: str,
    validator: jsonschema.Draft202012Validator,
) -> None:
    job = copy.deepcopy(of_kind("RayJob", render("k8s/base")))
    place: Any = job
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    [problem] = problems(validator, job)
    assert expected in problem


@needs_kubectl
def test_the_job_runs_distkeras_train_and_ends(manifests: list[Node]) -> None:
    spec = of_kind("RayJob", manifests)["spec"]
    command = "distkeras train --config /etc/distkeras/train.yaml --set output_dir=/runs --wait 900"
    assert spec["entrypoint"] == command
    assert spec["shutdownAfterJobFinishes"] is True
    assert {"ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit"} <= spec.keys()
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@needs_kubectl
def test_the_config_of_the_job_is_valid(manifests: list[Node], tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(of_kind("ConfigMap", manifests)["data"]["train.yaml"])
    config = load_config(path, ["output_dir=/runs"])
    job = of_kind("RayJob", manifests)
    assert config.name == job["metadata"]["name"]
    assert config.topology.kind == "ray"
    [group] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert config.topology.workers == group["replicas"]


@needs_kubectl
def test_every_pod_is_restricted(manifests: list[Node]) -> None:
    templates = list(pods(of_kind("RayJob", manifests)))
    assert len(templates) == 3
    for template in templates:
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@needs_kubectl
def test_every_mount_has_a_volume_and_every_scratch_volume_a_size(manifests: list[Node]) -> None:
    claims = [
        manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "PersistentVolumeClaim"
    ]
    for template in pods(of_kind("RayJob", manifests)):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        [container] = template["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        assert all(volume["emptyDir"]["sizeLimit"] for volume in volumes.values() if "emptyDir" in volume)
        if container["name"] != "ray-job-submitter":
            mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
            assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"  # noqa: S108
            assert mounts["/runs"]["persistentVolumeClaim"]["claimName"] in claims
            assert "/tmp/ray" in mounts  # noqa: S108


@needs_kubectl
def test_images_are_pinned_by_kustomize(manifests: list[Node]) -> None:
    images = [
        container["image"]
        for template in pods(of_kind("RayJob", manifests))
        for container in template["spec"]["containers"]
    ]
    assert len(images) == 3
    assert all(re.fullmatch(r"your-registry/distkeras:\d+\.\d+\.\d+(-gpu)?", image) for image in images)


@needs_kubectl
def test_the_network_is_closed_but_for_dns_and_ray(manifests: list[Node]) -> None:
    policies = {
        manifest["metadata"]["name"]: manifest["spec"]
        for manifest in manifests
        if manifest["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = policies["ray"]["podSelector"]["matchLabels"]
    job = of_kind("RayJob", manifests)
    assert all(template["metadata"]["labels"] == labels for template in pods(job))
    own = {"podSelector": {"matchLabels": labels}}
    egress = [(rule["to"], rule.get("ports")) for rule in policies["ray"]["egress"]]
    assert ([own], None) in egress
    [dns] = [ports for _, ports in egress if ports is not None]
    assert {port["port"] for port in dns} == {53}
    assert {"from": [own]} in policies["ray"]["ingress"]


@needs_kubectl
def test_no_manifest_holds_a_token(manifests: list[Node]) -> None:
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    assert "AUTH_TOKEN" not in yaml.safe_dump_all(manifests)


@needs_kubectl
def test_a_gpu_is_asked_for_where_the_workers_run() -> None:
    spec = of_kind("RayJob", render("k8s/overlays/gpu"))["spec"]
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
