"""Ray, Serve and our own code understand what cluster/ says. Nothing is started."""

import importlib
import inspect
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv
from ray.scripts.scripts import start
from ray.serve.schema import ServeDeploySchema

from serve.admin import UserConfig
from serve.args import RecommendArgs
from serve.http.exposure import check_exposure
from tests.paths import ROOT
from winnow import __version__
from winnow_ray.serving import haproxy
from winnow_ray.serving.profile import THROUGHPUT

CLUSTER = ROOT / "cluster"
SERVE_CONFIGS = sorted((CLUSTER / "serve").glob("*.yaml"))
MANIFESTS = sorted((CLUSTER / "kuberay").glob("*.yaml"))


def load(path: Path):
    return yaml.safe_load(path.read_text())


def test_there_is_something_to_check():
    assert [path.stem for path in SERVE_CONFIGS] == ["recommend_fused", "recommend_split"]
    assert [path.stem for path in MANIFESTS] == ["ray_cluster", "ray_service"]


@pytest.mark.parametrize("path", SERVE_CONFIGS, ids=lambda path: path.stem)
def test_serve_config(path):
    config = ServeDeploySchema.model_validate(load(path))
    assert config.http_options.host == "127.0.0.1"
    (app,) = config.applications
    module, _, builder = app.import_path.partition(":")
    build = getattr(importlib.import_module(module), builder)
    (parameter,) = inspect.signature(build, eval_str=True).parameters.values()
    args = parameter.annotation(**app.args)
    assert path.stem == f"recommend_{args.topology}"
    (deployment,) = app.deployments
    assert deployment.name == importlib.import_module(module).APP
    assert UserConfig(**deployment.user_config).bundle == args.bundle


def test_a_misspelled_argument_fails_the_deploy():
    build = importlib.import_module("serve.app").build_app
    (parameter,) = inspect.signature(build, eval_str=True).parameters.values()
    with pytest.raises(ValueError, match="top_k"):
        parameter.annotation(bundle="/data/bundle", top_k=3)


def test_runtime_env_brings_all_packages(monkeypatch):
    monkeypatch.chdir(ROOT)
    environment = RuntimeEnv(**load(CLUSTER / "runtime_env.yaml"))
    working_dir, modules = Path(environment.working_dir()), environment.py_modules()
    # Ray ships a folder under its own name
    assert [Path(module).name for module in modules] == ["winnow", "winnow_ray"]
    assert all((Path(module) / "__init__.py").is_file() for module in modules)
    for package in ("jobs", "serve"):
        assert (working_dir / package / "__init__.py").is_file()
        assert not any(pattern.startswith(f"/{package}") for pattern in environment["excludes"])
    for module in environment["py_modules"]:  # Ray applies the patterns to each of them too
        for pattern in environment["excludes"]:
            assert not (ROOT / module / pattern.strip("/")).exists(), f"{module} without {pattern}"


def test_local_cluster_is_one_that_ray_up_accepts():
    config = prepare_config(load(CLUSTER / "local.yaml"))
    validate_config(config)
    assert config["available_node_types"]["local.cluster.node"]["max_workers"] == 0


def test_local_cluster_starts_ray_with_options_it_has():
    config = load(CLUSTER / "local.yaml")
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        sourced, exported, command = commands[-1].split("&&")
        assert shlex.split(sourced) == [".", "~/winnow/cluster/serve/throughput.sh"]
        assert shlex.split(exported) == ["export", "RAY_AUTH_MODE=token"]
        words = shlex.split(command)
        assert words[1:3] == ["~/winnow/.venv/bin/ray", "start"]
        start.make_context("ray start", words[3:])
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "--dashboard-host=127.0.0.1" in shlex.split(config["head_start_ray_commands"][-1])


def pod_groups(cluster):
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_kuberay_manifest(path):
    manifest = load(path)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert manifest["kind"] == {"ray_cluster": "RayCluster", "ray_service": "RayService"}[path.stem]
    cluster = manifest["spec"].get("rayClusterConfig", manifest["spec"])
    assert cluster["rayVersion"] == pinned("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in pod_groups(cluster):
        check_pod(group["template"]["spec"])


def check_pod(pod):
    assert pod["securityContext"] == {"runAsNonRoot": True}
    (container,) = pod["containers"]
    assert container["image"] == f"winnow:{__version__}"
    assert container["resources"]["limits"] == container["resources"]["requests"]
    mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in pod.get("volumes", [])}


def test_ray_service_serves_the_fused_app():
    service = load(CLUSTER / "kuberay" / "ray_service.yaml")
    embedded = yaml.safe_load(service["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(embedded)
    (app,), (plain,) = (
        config["applications"]
        for config in (embedded, load(CLUSTER / "serve" / "recommend_fused.yaml"))
    )
    (deployment,) = app["deployments"]
    scaling = {name: deployment.pop(name) for name in ("num_replicas", "autoscaling_config")}
    assert scaling["autoscaling_config"]["target_ongoing_requests"] < haproxy.AT_A_TIME
    assert app["args"].pop("allowed_hosts") == [
        *("winnow-serve-svc", "winnow-serve-svc.default.svc.cluster.local"),
    ]
    assert app == plain
    for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]


def test_the_service_has_its_secrets_from_kubernetes_and_outlives_its_head():
    text = (CLUSTER / "kuberay" / "ray_service.yaml").read_text()
    (made,) = re.findall(r"kubectl create secret generic (\S+)", text)
    keys = set(re.findall(r"--from-literal=(\w+)=", text))
    cluster = yaml.safe_load(text)["spec"]["rayClusterConfig"]
    for group in pod_groups(cluster):
        (container,) = group["template"]["spec"]["containers"]
        refs = {
            one["name"]: one["valueFrom"]["secretKeyRef"]
            for one in container["env"]
            if "valueFrom" in one
        }
        assert refs.keys() == {"WINNOW_TOKEN", "WINNOW_ADMIN_TOKEN", "WINNOW_EVENTS"}
        assert all(ref["name"] == made and ref["key"] in keys for ref in refs.values())
    tolerance = cluster["gcsFaultToleranceOptions"]
    assert tolerance["redisPassword"]["valueFrom"]["secretKeyRef"]["key"] in keys
    embedded = yaml.safe_load(yaml.safe_load(text)["spec"]["serveConfigV2"])
    assert embedded["http_options"]["host"] == "0.0.0.0"
    check_exposure(
        RecommendArgs(**embedded["applications"][0]["args"]), "0.0.0.0", {"WINNOW_TOKEN": "t" * 16}
    )


def test_haproxys_folder_is_closed_to_others_and_not_taken_from_them(tmp_path):
    script = (CLUSTER / "serve" / "throughput.sh").read_text()
    assert "/tmp/winnow-haproxy-$(id -u)" in script
    folder = tmp_path / "h"
    (tmp_path / "script").write_text(script.replace("/tmp/winnow-haproxy-$(id -u)", str(folder)))
    shell = ["bash", "-c", f". {tmp_path}/script && echo $RAY_SERVE_HAPROXY_SOCKET_PATH"]
    done = subprocess.run(shell, capture_output=True, text=True, check=True)
    assert done.stdout == f"{folder}/admin.sock\n"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    refused = subprocess.run(shell, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "belongs to another user" in refused.stderr


def test_clusters_start_with_the_profile_that_the_launcher_sets():
    shell = ["bash", "-c", f". {CLUSTER}/serve/throughput.sh && env -0"]
    exported = subprocess.run(shell, env={}, capture_output=True, text=True, check=True).stdout
    pairs = dict(pair.split("=", 1) for pair in exported.split("\0") if pair)
    assert THROUGHPUT.items() <= pairs.items()
    cluster = load(CLUSTER / "kuberay" / "ray_service.yaml")["spec"]["rayClusterConfig"]
    for group in pod_groups(cluster):
        (container,) = group["template"]["spec"]["containers"]
        values = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        assert values == THROUGHPUT


def test_dockerfile_copies_what_exists_and_ends_as_a_user():
    lines = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copied = [line.split()[1:-1] for line in lines if re.match(r"COPY (?!--from)", line)]
    assert ["jobs"] in copied
    assert ["serve"] in copied
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists(), f"{source} is copied and is not there"
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000"]


def pinned(name):
    text = (CLUSTER / "requirements" / "cpu.txt").read_text()
    return re.search(rf"^{name}==(\S+)$", text, re.M)[1]


def test_the_dashboard_shows_metrics_that_the_job_makes():
    dashboard = json.loads((CLUSTER / "grafana" / "generate.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for query in queries for name in re.findall(r"ray_(winnow_\w+)", query)}
    made = set(
        re.findall(
            r'"(winnow_generate_\w+)"', (ROOT / "lib/winnow_ray/generation/workers.py").read_text()
        )
    )
    assert {name.removesuffix("_total") for name in shown} == made
