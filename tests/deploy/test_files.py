"""The unit, the manifests, the dashboard and the docs name only things that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from config import VARIABLES, Settings, needs
from glm_api import create_app
from glm_api.pipeline.worker.llama_cpp.repack import cache_folders
from tests.support.fake_pipeline import FakePipeline

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCS = [ROOT / "README.md", ROOT / "docs" / "deployment.md", ROOT / "docs" / "operations.md"]
TEXTS = [*sorted(DEPLOY.iterdir()), *DOCS]

app = create_app(Settings(), FakePipeline())


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with the path of this checkout."""
    path = tmp_path / "glm-api.service"
    python = shutil.which("true")
    text = (DEPLOY / "glm-api.service").read_text()
    path.write_text(text.replace("/opt/glm-api/.venv/bin/gunicorn", str(python)).replace("/opt/glm-api", str(ROOT)))
    return path


def test_systemd_accepts_the_unit(unit: Path, systemd_analyze: str) -> None:
    result = subprocess.run([systemd_analyze, "verify", unit], capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_systemd_accepts_the_template_unit_for_several_servers(
    unit: Path, systemd_analyze: str, tmp_path: Path
) -> None:
    docs = (ROOT / "docs" / "deployment.md").read_text()
    [script] = re.findall(r"sed -e '([^']+)' -e '([^']+)' glm-api.service > glm-api@.service", docs)
    template = tmp_path / "glm-api@.service"
    command = ["sed", *(f"--expression={part}" for part in script), str(unit)]
    template.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert "GLM_ENV_FILE=/etc/glm-api-%i.env" in template.read_text()
    assert "RuntimeDirectory=glm-api-%i\n" in template.read_text()
    result = subprocess.run([systemd_analyze, "verify", template], capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_the_unit_leaves_every_setting_to_the_file() -> None:
    text = (DEPLOY / "glm-api.service").read_text()
    # The second one is not a setting of the server.
    assert re.findall(r"^Environment=(\w+)", text, re.MULTILINE) == ["GLM_ENV_FILE", "XDG_CACHE_HOME"]


def test_repacked_files_have_a_folder_that_is_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = (DEPLOY / "glm-api.service").read_text()
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    [directory] = re.findall(r"^CacheDirectory=(.+)$", unit, re.MULTILINE)
    [made] = re.findall(r"install -d -o glm-api (\S+)", dockerfile)
    for text, writable in ((unit, f"/var/cache/{directory}"), (dockerfile, made)):
        [cache] = re.findall(r"XDG_CACHE_HOME=(\S+)", text)
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert cache_folders() == [Path(writable)]
    replica = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["x-replica"]
    assert [volume for volume in replica["volumes"] if volume.endswith(made)] == [f"cache:{made}"]
    [container] = deployment()["spec"]["template"]["spec"]["containers"]
    assert {"name": "cache", "mountPath": made} in container["volumeMounts"]


def test_the_image_has_llama_cpp_if_its_build_is_told_so() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    [needed] = needs({"GLM_BACKEND": "llama-cpp"})
    [(argument, installed)] = re.findall(
        r"^RUN if \[ -n \"\$(\w+)\" \]; then .* -r (\S+); fi$", dockerfile, re.MULTILINE
    )
    assert installed == needed
    assert f"\nARG {argument}=\nCOPY {needed} ./\n" in dockerfile
    build = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["x-replica"]["build"]
    assert build["args"] == {argument: f"${{{argument}:-}}"}


def test_only_the_units_group_may_open_the_socket_and_nginx_joins_it() -> None:
    text = (DEPLOY / "glm-api.service").read_text()
    [group] = re.findall(r"^Group=(.+)$", text, re.MULTILINE)
    assert re.findall(r"^RuntimeDirectoryMode=(.+)$", text, re.MULTILINE) == ["0750"]
    docs = (ROOT / "docs" / "deployment.md").read_text()
    assert f"usermod --append --groups {group} www-data" in docs
    # nginx's user is in the group, so the group must not read these files.
    assert re.findall(r"chmod (\d+) /etc/glm-api", docs) == ["600", "600"]


def test_the_wait_for_the_model_is_shorter_than_systemds_start_timeout() -> None:
    text = (DEPLOY / "glm-api.service").read_text()
    [waits] = re.findall(r"^ExecStartPost=-.*/deploy/wait_until_ready.py (\d+)$", text, re.MULTILINE)
    [timeout] = re.findall(r"^TimeoutStartSec=(\d+)$", text, re.MULTILINE)
    assert 0 < int(waits) < int(timeout)


def test_the_unit_is_hardened(unit: Path, systemd_analyze: str) -> None:
    command = [systemd_analyze, "security", "--offline=true", "--threshold=25", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-300:]


def test_systemd_and_containers_wait_longer_than_the_graceful_timeout() -> None:
    grace = Settings().graceful_timeout + 2
    unit = (DEPLOY / "glm-api.service").read_text()
    assert int(re.findall(r"TimeoutStopSec=(\d+)", unit)[0]) > grace
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert int(compose["x-replica"]["stop_grace_period"].rstrip("s")) > grace
    pod = deployment()["spec"]["template"]["spec"]
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > grace + pause


def test_kubernetes_probes_ask_for_existing_paths() -> None:
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    client = app.test_client()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert client.get(container[probe]["httpGet"]["path"]).status_code == 200
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"


def test_the_image_contains_everything_that_runs() -> None:
    copies = re.findall(r"^COPY (?!--from)(.*)", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    copied = " ".join(copies).split()
    for name in ("config.py", "wsgi.py", "gunicorn.conf.py", "glm_api", "hub", Settings().model.name):
        assert name in [Path(path).name for path in copied]
    for name in copied:
        assert (ROOT / name).exists() or name in ("./", "glm_api/pipeline/worker/chatglm_cpp/", "demo/"), name


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_named_setting_exists(path: Path) -> None:
    assert set(re.findall(r"\bGLM_[A-Z_]+", path.read_text())) <= VARIABLES.keys()


@pytest.mark.parametrize(
    "path", [DEPLOY / "grafana-dashboard.json", ROOT / "docs" / "operations.md"], ids=lambda path: path.name
)
def test_every_named_metric_exists(path: Path) -> None:
    exposition = app.test_client().get("/metrics").get_data(as_text=True)
    known = {family.name for family in text_string_to_metric_families(exposition)}
    named = set(re.findall(r"\bglm_[a-z0-9_]+", path.read_text())) - {"glm_", "glm_api"}
    assert named
    assert {re.sub(r"_(total|bucket)$", "", name) for name in named} <= known


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    blocks = re.findall(r"```yaml\n(groups:.*?)```", (ROOT / "docs" / "operations.md").read_text(), flags=re.DOTALL)
    rules = [rule for block in blocks for group in yaml.safe_load(block)["groups"] for rule in group["rules"]]
    assert len(rules) > 5
    for rule in rules:
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]


def test_the_ingress_waits_and_tries_again_as_nginx_does() -> None:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    ingress = next(document for document in documents if document["kind"] == "Ingress")
    nginx = (DEPLOY / "nginx.conf").read_text()
    for name, directive, unit in (
        ("proxy-buffering", "proxy_buffering", ""),
        ("proxy-request-buffering", "proxy_request_buffering", ""),
        ("proxy-read-timeout", "proxy_read_timeout", "s"),
        ("proxy-body-size", "client_max_body_size", ""),
        ("proxy-next-upstream", "proxy_next_upstream", ""),
    ):
        # The first one in the file is the public server's.
        value = re.findall(rf"^    {directive} (.*?){unit};$", nginx, re.MULTILINE)[0]
        assert ingress["metadata"]["annotations"][f"nginx.ingress.kubernetes.io/{name}"] == value


def test_the_dashboard_shows_every_metric() -> None:
    text = (DEPLOY / "grafana-dashboard.json").read_text()
    json.loads(text)
    exposition = app.test_client().get("/metrics").get_data(as_text=True)
    for family in text_string_to_metric_families(exposition):
        if family.name.startswith("glm_") and not family.name.endswith("_created"):
            assert family.name in text


def deployment() -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return next(document for document in documents if document["kind"] == "Deployment")


def test_compose_configures_nginx_for_its_replicas(tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    script: str = compose["services"]["nginx"]["command"][2].split("exec")[0]
    script = script.replace("/glm.conf", str(DEPLOY / "nginx.conf"))
    script = script.replace("/etc/nginx/conf.d/default.conf", str(tmp_path / "site.conf"))
    subprocess.run(["sh", "-c", script], check=True)
    site = (tmp_path / "site.conf").read_text()
    servers = re.findall(r"^upstream glm_(\d+) { server ([^ {]+):8000 max_fails=0; }", site, re.MULTILINE)
    assert servers == [("9101", "glm-1"), ("9102", "glm-2")]
    for line in ("server 127.0.0.1:%s max_fails=0;", "listen 127.0.0.1:%s;"):
        assert all(re.search(rf"^ *{line % port}$", site, re.MULTILINE) for port, _ in servers)
    assert {name for _, name in servers} < compose["services"].keys()


def test_the_ingress_exposes_only_what_clients_need() -> None:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    ingress = next(document for document in documents if document["kind"] == "Ingress")
    [rule] = ingress["spec"]["rules"]
    paths = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}
    assert paths["/v1"] == "Prefix"
    assert paths["/"] == "Exact"
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    for path in paths:
        assert any(route == path or route.startswith(f"{path}/") for route in routes), path
    for operators in ("/metrics", "/slots", "/queue", "/props"):
        assert operators in routes
        assert operators not in paths
