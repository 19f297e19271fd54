"""The rules of docs/architecture.md about who may import whom; and the files that the documents name exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CHILD = "glm_api.pipeline.worker.__main__"
# The engines import what is around them, and only the program of the children imports an engine.
ENGINES = ("glm_api.pipeline.worker.chatglm_cpp", "glm_api.pipeline.worker.llama_cpp")

# The floors, from the top down; what stands on one line is a room. A module imports from its own room and from the
# floors below it. It belongs to the room with the longest name that it is or is inside of.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("glm_api", "glm_api.lifecycle"),
    (
        "glm_api.chat",
        "glm_api.completions",
        "glm_api.responses",
        "glm_api.messages",
        "glm_api.embeddings",
        "glm_api.native_completion",
        "glm_api.models",
        "glm_api.ops",
        "glm_api.pages",
        "glm_api.upstream",
    ),
    ("glm_api.api",),
    ("glm_api.middleware",),
    ("glm_api.server",),
    ("glm_api.context",),
    ("glm_api.errors",),
    # The web side of the pipeline, and the children with their engines: they talk in frames.
    ("glm_api.pipeline", "glm_api.pipeline.worker", *ENGINES),
    ("glm_api.pipeline.formats",),
    ("glm_api.pipeline.frames",),
    ("glm_api.pipeline.conversation", "glm_api.pipeline.job"),
    ("glm_api.pipeline.model_info",),
    ("glm_api.backend",),
    ("glm_api.log",),
    ("config",),
    ("hub",),
)
# Rooms of one floor that import each other all the same.
NEIGHBOURS = {
    # Each endpoint's answers bear the model's name.
    ("glm_api.chat", "glm_api.models.catalog"),
    ("glm_api.completions", "glm_api.models.catalog"),
    ("glm_api.embeddings", "glm_api.models.catalog"),
    ("glm_api.native_completion", "glm_api.models.catalog"),
    ("glm_api.responses", "glm_api.models.catalog"),
    ("glm_api.messages", "glm_api.models.catalog"),
}
# What the children may load, with what is inside; and the packages that these are in.
CHILDREN_SHARE = (
    "glm_api.pipeline.worker",
    "glm_api.pipeline.formats",
    "glm_api.pipeline.frames",
    "glm_api.pipeline.conversation",
    "glm_api.pipeline.job",
    "glm_api.pipeline.model_info",
    "glm_api.backend.errors",
    "glm_api.log.faults",
)
MOST_LOOSE_MODULES = 4

Imports = Mapping[str, frozenset[str]]
"""The modules of the project that each of them imports, by name."""


class Sources:
    """Python files by the names of their modules; which of them are packages."""

    def __init__(self, texts: Mapping[str, str], packages: frozenset[str]) -> None:
        self.texts = texts
        self.packages = packages

    @classmethod
    def read(cls) -> Sources:
        paths = [ROOT / "config.py", *(ROOT / "hub").rglob("*.py"), *(ROOT / "glm_api").rglob("*.py")]
        texts: dict[str, str] = {}
        packages = set()
        for path in paths:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            texts[name] = path.read_text()
            if path.name == "__init__.py":
                packages.add(name)
        return cls(texts, frozenset(packages))

    def with_line(self, module: str, line: str) -> Sources:
        """The same with one more line at the end of ``module``."""
        return Sources({**self.texts, module: f"{self.texts[module]}\n{line}\n"}, self.packages)

    def imports(self) -> Imports:
        """All imports, also those in functions and for type checkers."""
        trees = {module: ast.parse(text) for module, text in self.texts.items()}
        return {module: frozenset(self._found(module, ast.walk(tree))) for module, tree in trees.items()}

    def imports_at_once(self, module: str) -> frozenset[str]:
        """What ``module`` imports when it is imported itself."""
        return frozenset(self._found(module, _run_at_once(ast.parse(self.texts[module]))))

    def _found(self, module: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (name for alias in node.names if (name := alias.name) in self.texts)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(module, node)
                for alias in node.names:
                    inside = f"{origin}.{alias.name}"
                    if inside in self.texts:
                        yield inside
                    elif origin in self.texts:
                        yield origin

    def _origin(self, module: str, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        above = parts[: len(parts) - node.level + (module in self.packages)]
        return ".".join([*above, *([node.module] if node.module else [])])


def _run_at_once(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _run_at_once(node)


def is_in(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def room_of(module: str) -> tuple[int, str]:
    """The number of its floor, from the top, and its room."""
    found = [(floor, room) for floor, rooms in enumerate(LAYERS) for room in rooms if is_in(module, room)]
    floor, room = max(found, key=lambda place: len(place[1]))
    # Only the package itself: what is new in it needs a floor of its own.
    assert room != "glm_api" or module == "glm_api", f"{module} is on no floor: name it in LAYERS"
    return floor, room


def wrong_ways(imports: Imports) -> list[str]:
    """The imports that run up, or from one room to another on its floor."""
    wrong = []
    for importer, imported in sorted((a, b) for a, targets in imports.items() for b in targets):
        floor, room = room_of(importer)
        other_floor, other_room = room_of(imported)
        if room == other_room or floor < other_floor or (room, imported) in NEIGHBOURS:
            continue
        if (room in ENGINES and other_room == "glm_api.pipeline.worker") or (
            importer == CHILD and other_room in ENGINES
        ):
            continue
        # The loose modules of the top are one room.
        if not (floor == other_floor == 0):
            wrong.append(f"{importer} -> {imported}")
    return wrong


def circle(imports: Imports) -> list[str]:
    """Modules that import each other in a circle, or nothing."""
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done:
            for imported in sorted(imports[module]):
                if found := follow(imported, [*path, module]):
                    return found
            done.add(module)
        return []

    return next(filter(None, (follow(module, []) for module in sorted(imports))), [])


def reached(sources: Sources, start: str) -> set[str]:
    """All that is loaded when ``start`` runs. Of the packages around a module, only what they import at once."""
    imports = sources.imports()
    found: set[str] = set()
    around: set[str] = set()
    todo = [start]
    while todo:
        module = todo.pop()
        if module in found:
            continue
        found.add(module)
        todo += imports[module]
        parts = module.split(".")
        for package in (".".join(parts[:end]) for end in range(1, len(parts))):
            if package not in around:
                around.add(package)
                todo += sources.imports_at_once(package)
    return found | around


def foreign_to_children(modules: set[str]) -> list[str]:
    """Those of ``modules`` that are no business of a child."""
    return sorted(
        module
        for module in modules
        if not any(is_in(module, place) or is_in(place, module) for place in CHILDREN_SHARE)
    )


def loose_modules(sources: Sources) -> list[str]:
    """The modules in glm_api/ that are in no folder."""
    return sorted(name for name in sources.texts.keys() - sources.packages if re.fullmatch(r"glm_api\.\w+", name))


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources.read()


def test_no_import_runs_up_and_no_endpoint_imports_another(sources: Sources) -> None:
    assert wrong_ways(sources.imports()) == []


def test_no_modules_import_each_other_in_a_circle(sources: Sources) -> None:
    assert circle(sources.imports()) == []


def test_the_children_import_nothing_of_the_web_side(sources: Sources) -> None:
    modules = reached(sources, CHILD)
    assert "glm_api.pipeline.formats.chatglm3" in modules
    assert foreign_to_children(modules) == []


def test_the_children_load_nothing_of_the_web_side() -> None:
    code = f"import sys, {CHILD}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = {name for name in result.stdout.split() if name.split(".")[0] in ("glm_api", "config", "hub")}
    assert CHILD in modules
    assert foreign_to_children(modules) == []


def test_few_modules_are_in_no_folder(sources: Sources) -> None:
    assert len(loose_modules(sources)) <= MOST_LOOSE_MODULES


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("glm_api.backend.base", "import glm_api.upstream.client", "glm_api.upstream.client"),
        ("glm_api.errors", "from glm_api import context", "glm_api.context"),
        ("glm_api.errors", "from . import context", "glm_api.context"),
        ("glm_api.api.sse", "def f():\n    from glm_api.chat.routes import blueprint", "glm_api.chat.routes"),
        ("glm_api.log.lines", "if TYPE_CHECKING:\n    from config import Settings", None),
        ("glm_api.log.lines", "if TYPE_CHECKING:\n    from glm_api.errors import ApiError", "glm_api.errors"),
        ("config", "from glm_api import create_app", "glm_api"),
        ("glm_api.chat.routes", "from glm_api.completions import schemas", "glm_api.completions.schemas"),
        ("glm_api.chat.routes", "from glm_api.models.catalog import served_model", None),
        ("glm_api.chat.routes", "from glm_api.models.routes import blueprint", "glm_api.models.routes"),
        ("glm_api.pipeline.pipeline", "from .worker import memory", "glm_api.pipeline.worker.memory"),
        ("glm_api.pipeline.worker.memory", f"import {ENGINES[0]}.bridge", f"{ENGINES[0]}.bridge"),
        (f"{ENGINES[1]}", f"import {ENGINES[0]}.bridge", f"{ENGINES[0]}.bridge"),
    ],
)
def test_an_import_the_wrong_way_is_found(sources: Sources, module: str, line: str, wrong: str | None) -> None:
    assert wrong_ways(sources.with_line(module, line).imports()) == ([f"{module} -> {wrong}"] if wrong else [])


def test_a_circle_is_found(sources: Sources) -> None:
    line = "def f():\n    from glm_api.pipeline.formats.chatglm3 import chatglm3"
    found = circle(sources.with_line("glm_api.pipeline.formats.call_syntax", line).imports())
    assert {"glm_api.pipeline.formats.call_syntax", "glm_api.pipeline.formats.chatglm3"} <= set(found)


@pytest.mark.parametrize(
    ("module", "line", "foreign"),
    [
        (
            "glm_api.pipeline.worker.chatglm_cpp.slots",
            "from glm_api.pipeline.cpus import usable_cpus",
            "glm_api.pipeline.cpus",
        ),
        ("glm_api.pipeline", "from glm_api.pipeline.stall import StallDetector", "glm_api.pipeline.stall"),
        ("glm_api", "import glm_api.errors", "glm_api.errors"),
        ("glm_api.pipeline.formats.base", "def f():\n    import glm_api.errors", "glm_api.errors"),
    ],
)
def test_a_child_that_would_import_the_web_side_is_found(
    sources: Sources, module: str, line: str, foreign: str
) -> None:
    assert foreign in foreign_to_children(reached(sources.with_line(module, line), CHILD))


def test_a_module_without_a_floor_is_found() -> None:
    with pytest.raises(AssertionError, match=r"glm_api\.helpers is on no floor"):
        wrong_ways({"glm_api.helpers": frozenset({"glm_api.errors"})})


def test_loose_modules_are_counted(sources: Sources) -> None:
    more = Sources({**sources.texts, "glm_api.helpers": ""}, sources.packages)
    assert loose_modules(more) == sorted([*loose_modules(sources), "glm_api.helpers"])


def importers_of(package: str, sources: Sources) -> set[str]:
    """The modules that import ``package``, which is not the project's."""
    pattern = re.compile(rf"^\s*(?:import|from) {package}\b", flags=re.MULTILINE)
    return {module for module, text in sources.texts.items() if pattern.search(text)}


@pytest.mark.parametrize(("package", "engine"), [("chatglm_cpp", ENGINES[0]), ("xllamacpp", ENGINES[1])])
def test_a_package_that_computes_is_imported_by_its_engine_only(sources: Sources, package: str, engine: str) -> None:
    importers = importers_of(package, sources)
    assert importers
    assert [module for module in importers if not is_in(module, engine)] == []


def test_the_program_that_repacks_needs_no_engine(sources: Sources) -> None:
    modules = reached(sources, f"{ENGINES[1]}.repack")
    assert f"{CHILD.rpartition('.')[0]}.gguf_file" in modules
    assert modules & (importers_of("chatglm_cpp", sources) | importers_of("xllamacpp", sources)) == set()


def test_huggingface_hub_is_imported_by_the_download_only(sources: Sources) -> None:
    assert importers_of("huggingface_hub", sources) == {"hub.download"}


def test_the_backends_know_nothing_of_flask(sources: Sources) -> None:
    below = ("glm_api.pipeline", "glm_api.backend", "glm_api.log", "glm_api.server", "config", "hub")
    assert [module for module in importers_of("flask", sources) if any(is_in(module, place) for place in below)] == []


def test_the_master_stays_free_of_what_a_worker_patches() -> None:
    code = "import sys, glm_api.lifecycle; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {"glm_api", "config", "hub", "flask", "gevent", "huggingface_hub"}
    found = {module for module in result.stdout.split() if module.split(".")[0] in names}
    assert found == {"glm_api", "glm_api.lifecycle", "config", "hub", "hub.program", "hub.repack"}


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
        *(
            f"glm_api.{name}"
            for name in "log log.faults log.lines server server.connections server.paths server.worker".split()
        ),
    ]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/security.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    places = r"glm_api|demo|hub|tests|benchmarks|deploy|config\.py|wsgi\.py|gunicorn\.conf\.py"
    named = re.findall(rf"`((?:{places})(?:/[\w/.-]*)?)(?:::\w+)?`", text)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_test_that_is_named_exists() -> None:
    found = re.findall(r"`(tests/[\w/]+\.py)?::([\w:]+)`", (ROOT / "docs/security.md").read_text())
    assert len(found) > 10
    path = ""
    for file, names in found:
        # One without a file is in that of the one before.
        path = file or path
        text = (ROOT / path).read_text()
        assert [name for name in names.split("::") if not re.search(rf"(?:def|class) {name}\b", text)] == [], path
