"""The rules that docs/architecture.md states about who may import whom."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "glm_api"


def importers_of(module: str, *, but: Path | None = None) -> list[Path]:
    pattern = re.compile(rf"^\s*(?:import|from) {module}\b", flags=re.MULTILINE)
    return [
        path.relative_to(ROOT)
        for path in (*PACKAGE.rglob("*.py"), *(ROOT / "hub").rglob("*.py"))
        if (but is None or but not in path.parents) and pattern.search(path.read_text())
    ]


def test_chatglm_cpp_is_imported_in_the_worker_only() -> None:
    assert importers_of("chatglm_cpp", but=PACKAGE / "pipeline" / "worker") == []


def test_huggingface_hub_is_imported_by_the_download_only() -> None:
    assert importers_of("huggingface_hub") == [Path("hub/download.py")]


def test_the_pipeline_knows_nothing_of_flask() -> None:
    assert [path for path in importers_of("flask") if "pipeline" in path.parts] == []


def test_the_master_stays_free_of_what_a_worker_patches() -> None:
    code = "import sys, config; print(sorted({'glm_api', 'flask', 'gevent', 'huggingface_hub'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_master_imports_nothing_with_the_worker_class_that_a_worker_patches() -> None:
    code = (
        "import sys, gunicorn.workers.ggevent; before = set(sys.modules); import glm_api.server.worker;"
        "new = sys.modules.keys() - before;"
        "print(*sorted(name for name in new if name.split('.')[0] not in sys.stdlib_module_names))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = [name for name in result.stdout.split() if not name.startswith("pythonjsonlogger")]
    assert imported == [
        "glm_api",
        *(f"glm_api.{name}" for name in "log log.faults log.lines server server.connections server.worker".split()),
    ]


def test_every_module_that_is_named_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"`((?:glm_api|demo|hub|config\.py|wsgi\.py|gunicorn\.conf\.py)[\w/.]*)`", text)
    assert len(named) > 10
    paths = [name for name in named if "." not in name.split("/")[-1] or name.endswith((".py", ".c"))]
    assert [name for name in paths if not (ROOT / name).exists()] == []
