"""The settings: environment variables with the prefix ``GLM_``, which `load_settings` reads.

`Settings` is the table of them. Each field is one variable (``queue_size`` is ``GLM_QUEUE_SIZE``) with its type,
default, bounds and a line of help; the table in README.md is tested against it.

This module imports nothing of ``glm_api``: gunicorn's master imports it, and whatever the master imports stays
unpatched by gevent in the worker.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import io
import ipaddress
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from dotenv.parser import Binding, parse_stream
from marshmallow import ValidationError, fields, validate

from hub import PREFIX as HUB_PREFIX
from hub import SYNTAX as HUB_SYNTAX
from hub import Fetch, HubError, HubFile, fetched
from hub.program import command_to_install
from hub.repack import Repack, RepackError, repacked

PREFIX: Final = "GLM_"
# The names of chatglm_cpp.openai_api, so that its users need to change nothing. A GLM_ name takes precedence.
ALIASES: Final = {"MODEL": "GLM_MODEL", "MAX_LENGTH": "GLM_MAX_LENGTH", "NUM_THREADS": "GLM_NUM_THREADS"}

DEMO_MODEL: Final = Path(__file__).resolve().parent / "demo" / "chatglm3-demo.q8_0.bin"

# What a file's name says of its weights, and of the parts of a file.
_FORMATS_IN_NAMES: Final = r"([-_.](ggml|i?q\d_\w{1,4}|q\d_k_\w{1,2}|b?f16|f32|\d{5}-of-\d{5}))+$"
_SPLIT: Final = re.compile(r"-00001-of-(\d{5})\.gguf$")
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


class SettingsError(Exception):
    """Some settings are invalid. ``lines`` has one line for each error, which names the variable."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the table.

    ``values`` describes the valid values, and ``default`` the default. ``parse`` converts the text; it raises
    `ValidationError` with a message that follows the name of the variable.
    """

    values: str
    default: str
    help: str
    parse: Callable[[str], Any]


# --- kinds of settings --------------------------------------------------------------------------------------------
# Each returns a field of `Settings`. ``shown`` is the default as the table shows it, if that is not the value itself.


def _parsed(
    values: str, default: Any, help: str, parse: Callable[[str], Any], *, shown: str, secret: bool = False
) -> Any:
    variable = Variable(values, shown, help, parse)
    return dataclasses.field(default=default, metadata={"variable": variable}, repr=not secret)


def _integer(default: int | None, help: str, *, least: int, most: int, shown: str | None = None) -> Any:
    values = f"a whole number from {least} to {most}"
    field = fields.Int(validate=_range(least, most, values), error_messages=_errors(values))
    return _parsed(values, default, help, field.deserialize, shown=shown or str(default))


def _seconds(default: float, help: str, *, least: float, most: float) -> Any:
    values = f"seconds from {least:g} to {most:g}"
    field = fields.Float(validate=_range(least, most, values), error_messages=_errors(values))
    return _parsed(values, default, help, field.deserialize, shown=f"{default:g}")


def _switch(help: str) -> Any:
    values = "1 or 0"
    return _parsed(values, False, help, fields.Bool(error_messages=_errors(values)).deserialize, shown="0")


def _choice(default: str, help: str, *choices: str) -> Any:
    values = f"{', '.join(choices[:-1])} or {choices[-1]}"
    one_of = validate.OneOf(choices, error=f"must be {values}, not {{input!r}}")
    return _parsed(values, default, help, fields.Str(validate=one_of).deserialize, shown=default)


def _range(least: float, most: float, values: str) -> validate.Range:
    return validate.Range(least, most, error=f"must be {values}, not {{input}}")


def _errors(values: str) -> dict[str, Any]:
    return {"invalid": f"must be {values}, not {{input!r}}", "special": f"must be {values}"}


def _readable_file(text: str) -> Path:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError("names a path that is not UTF-8") from None
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValidationError(f"names {text!r}, and there is no such user") from None
    if path.is_dir():
        raise ValidationError(f"must name a file, but {str(path)!r} is a directory")
    if not path.exists():
        raise ValidationError(f"names {str(path)!r}, which does not exist")
    if not os.access(path, os.R_OK):
        raise ValidationError(f"names {str(path)!r}, which this user may not read")
    return path


def _model(text: str) -> Path | HubFile:
    if not text.startswith(HUB_PREFIX):
        return _readable_file(text)
    file = HubFile.parse(text)
    if file is None:
        raise ValidationError(f"must be a path or {HUB_SYNTAX}, not {text!r}")
    return file


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w.:/@+-]{1,200}", text):
        raise ValidationError(f"must be letters, digits and . : / @ + - _ only, not {text!r}")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(_name(name) for name in _entries(text))


def _key(text: str) -> str:
    text = text.strip()
    # Anything else cannot be sent in a header. The message must not show the key.
    if not _VISIBLE_ASCII.fullmatch(text):
        raise ValidationError("may hold visible ASCII characters only")
    return text


def _keys(text: str) -> tuple[str, ...]:
    return tuple(map(_key, _entries(text)))


def _key_file(text: str) -> Path:
    return _checked_file(text, read_key_file)


def _env_file(text: str) -> Path:
    return _checked_file(text, _check_env_file)


def _checked_file(text: str, check: Callable[[Path], object]) -> Path:
    """Return the path of a file for which ``check`` raises neither `OSError` nor `ValueError`."""
    path = _readable_file(text)
    try:
        check(path)
    except OSError as error:
        raise ValidationError(f"names {str(path)!r}, which cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValidationError(f"names {str(path)!r}, and {error}") from None
    return path


def _origins(text: str) -> tuple[str, ...]:
    origins = _entries(text)
    for origin in origins:
        # Patterns are refused: flask-cors would take them for regular expressions.
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://([\w.-]+|\[[0-9a-fA-F:]+\])(:\d+)?", origin):
            raise ValidationError(f"must be * or origins such as https://chat.example.org, not {origin!r}")
    return origins


def _hosts(text: str) -> tuple[str, ...]:
    hosts = _entries(text)
    for host in hosts:
        if host != "*" and not re.fullmatch(r"[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]", host):
            raise ValidationError(f"must be * or names such as glm.example.org, without a port, not {host!r}")
    return tuple(host.lower().removesuffix(".") for host in hosts)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "@" in text or "?" in text or "#" in text or not _VISIBLE_ASCII.fullmatch(text):
        # The message does not show the URL: people put passwords into URLs.
        raise ValidationError("must be http:// or https://, a host, and the path before /models, without a user")
    return text.rstrip("/")


def _model_map(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [entry.partition("=") for entry in _entries(text)]
    if not all(equals for _, equals, _ in pairs):
        raise ValidationError(f"must be pairs such as glm-4=THUDM/glm-4-9b-chat, not {text!r}")
    return tuple((_name(shown), _name(meant)) for shown, _, meant in pairs)


def _bind(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text.startswith("unix:/"):
        return text
    if host and port.isascii() and port.isdecimal():
        if 0 < int(port) < 65536:
            return text
        raise ValidationError(f"must have a port from 1 to 65535, but is {text!r}")
    raise ValidationError(f"must be HOST:PORT or unix:/PATH, not {text!r}")


def _response_store(text: str) -> str | Path:
    if text in ("memory", "off"):
        return text
    if "/" not in text:
        raise ValidationError(f"must be memory, off or a path such as /var/lib/glm-api/responses.db, not {text!r}")
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        raise ValidationError(f"must name a file, but {str(path)!r} is a directory")
    if not path.parent.is_dir():
        raise ValidationError(f"names {str(path)!r}, and there is no folder {str(path.parent)!r}")
    # SQLite writes other files beside it.
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        raise ValidationError(f"names {str(path)!r}, where this user may not write")
    if path.exists() and not _is_database(path):
        raise ValidationError(f"names {str(path)!r}, which is not an SQLite file")
    return path


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) in (b"", b"SQLite format 3\0")


def _entries(text: str) -> tuple[str, ...]:
    entries = tuple(entry for entry in (part.strip() for part in text.split(",")) if entry)
    if not entries:
        # The setting was meant to be set. Ignoring it could open the server to everybody.
        raise ValidationError("holds nothing but commas: give at least one entry, or leave the setting out")
    return entries


# --- the table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings. Times are in seconds. The repr shows no keys."""

    model: Path = _parsed(
        f"a path or {HUB_SYNTAX}",
        DEMO_MODEL,
        "The GGML or GGUF file to serve; the server downloads `hf:` models ([docs/models.md](docs/models.md)).",
        _model,
        shown="the bundled demo model",
    )
    model_name: str = _parsed(
        "a name", "", "The model's id in `/v1/models` and in answers.", _name, shown="from the file's name"
    )
    model_aliases: tuple[str, ...] = _parsed(
        "comma-separated names", (), "Other ids by which clients may select the model.", _names, shown="none"
    )
    strict_model: bool = _switch("Answer 404 to an unknown `model` instead of using the served model.")
    lenient: bool = _switch(
        "Ignore parameters that the model cannot honour (such as `mirostat`) instead of refusing the request."
    )
    max_length: int | None = _integer(
        None,
        "Length of the context in tokens, prompt and answer together; more than the model's own is refused.",
        least=16,
        most=1_048_576,
        shown="the model's own, at most 8192",
    )
    num_threads: int | None = _integer(
        None,
        "Number of compute threads. They spin: never set more than there are CPUs.",
        least=1,
        most=512,
        shown="the CPUs that the process may use",
    )
    # ggml has room for 64 contexts in a process, and each slot takes three.
    cache_slots: int = _integer(
        4,
        "Number of conversations whose evaluated prompts stay cached; each takes memory of its own. llama.cpp answers "
        "as many requests at a time.",
        least=1,
        most=16,
    )
    prefill: Literal["auto", "step", "batch"] = _choice(
        "auto",
        "How chatglm-cpp evaluates prompts: `step` continues a cached prefix, `batch` is faster on many CPUs.",
        "auto",
        "step",
        "batch",
    )
    mmproj: Path | None = _parsed(
        f"a path or {HUB_SYNTAX}",
        None,
        "The projector that lets a GGUF model see images.",
        _model,
        shown="none: no images",
    )
    gpu_layers: int | None = _integer(
        None,
        "Number of layers that a GPU computes, with llama.cpp.",
        least=0,
        most=1000,
        shown="as many as fit",
    )
    queue_size: int = _integer(64, "Maximum number of waiting requests; one more gets 429.", least=0, most=10_000)
    queue_timeout: float = _seconds(300, "Maximum time that a request waits for its turn.", least=1, most=86_400)
    request_timeout: float = _seconds(1800, "Maximum duration of a request, waiting included.", least=1, most=86_400)
    ping_interval: float = _seconds(
        15, "Silence after which the server sends a comment to keep a stream open; 0: never.", least=0, most=3600
    )
    backend: Literal["auto", "chatglm-cpp", "llama-cpp", "openai"] = _choice(
        "auto",
        "What generates the answers. `auto`: llama.cpp for a GGUF file, else chatglm-cpp. `llama-cpp` takes most "
        "chatglm-cpp files too. `openai`: an OpenAI-compatible engine elsewhere.",
        "auto",
        "chatglm-cpp",
        "llama-cpp",
        "openai",
    )
    upstream_url: str = _parsed(
        "an http or https URL",
        "",
        "Base URL of that engine, such as `http://10.0.0.5:8080/v1`.",
        _url,
        shown="none; needed with `GLM_BACKEND=openai`",
    )
    upstream_key: str = _parsed("a key", "", "The API key that the engine requires.", _key, shown="none", secret=True)
    upstream_models: tuple[tuple[str, str], ...] = _parsed(
        "comma-separated `name=engine's name`",
        (),
        "The models to offer, each with its name in the engine.",
        _model_map,
        shown="the engine's own",
    )
    upstream_concurrency: int = _integer(
        8, "Maximum number of requests at the engine at a time; the others wait in the queue.", least=1, most=1000
    )
    response_store: str | Path = _parsed(
        "memory, off or a path",
        "memory",
        "Where `/v1/responses` keeps responses: in memory, in an SQLite file, or nowhere "
        "([docs/operations.md](docs/operations.md#stored-responses)).",
        _response_store,
        shown="memory",
    )
    max_body_bytes: int = _integer(8 * 2**20, "Maximum size of a request body, in bytes.", least=1024, most=32 * 2**20)
    body_timeout: float = _seconds(
        60,
        "Maximum time for a request body to arrive, and for a client to leave an answer unread.",
        least=1,
        most=86_400,
    )
    bind: str = _parsed(
        "HOST:PORT or unix:/PATH",
        "127.0.0.1:8000",
        "Address on which the server listens.",
        _bind,
        shown="127.0.0.1:8000",
    )
    graceful_timeout: float = _seconds(
        30, "Maximum time that running answers continue after SIGTERM.", least=0, most=3600
    )
    env_file: Path | None = _parsed(
        "a path",
        None,
        "File with more settings, one `NAME=value` a line; read again on HUP.",
        _env_file,
        shown="none",
    )
    api_keys: tuple[str, ...] = _parsed(
        "comma-separated keys",
        (),
        "API keys; without any, everybody may use the server.",
        _keys,
        shown="none",
        secret=True,
    )
    api_keys_file: Path | None = _parsed(
        "a path",
        None,
        "File with more API keys, at least one, one a line; read again when it changes.",
        _key_file,
        shown="none",
    )
    allowed_hosts: tuple[str, ...] = _parsed(
        "comma-separated names, or *",
        (),
        "Names (in the `Host` header) that the server answers to, beside localhost's.",
        _hosts,
        shown="only localhost's where `GLM_BIND` is loopback and there are no API keys, else *",
    )
    metrics_open: bool = _switch("Let everybody read `/metrics`, even if there are API keys.")
    cors_origins: tuple[str, ...] = _parsed(
        "comma-separated origins, or *", (), "Other origins whose pages may call the server.", _origins, shown="none"
    )
    log_level: str = _choice("info", "Least severe level to log.", "debug", "info", "warning", "error")
    log_format: str = _choice("text", "Format of the log lines.", "text", "json")
    log_prompts: bool = _switch("Log prompts and answers too.")
    gguf: Path | None = None
    """The file that llama.cpp loads: the model, or what it has been repacked to; None: llama.cpp does not serve."""

    def __post_init__(self) -> None:
        if not self.model_name:
            object.__setattr__(self, "model_name", model_name_of(self.model))

    @property
    def engine(self) -> Literal["chatglm-cpp", "llama-cpp", "openai"]:
        """What generates the answers."""
        if self.backend == "openai":
            return "openai"
        return "chatglm-cpp" if self.gguf is None else "llama-cpp"

    @property
    def public(self) -> bool:
        """Whether other machines can reach the server."""
        return not self.bind.startswith("unix:") and not self.loopback

    @property
    def loopback(self) -> bool:
        """Whether the server listens on TCP for this machine alone; any page in a browser here can send to it."""
        return is_loopback(self.bind.rpartition(":")[0])

    @property
    def keyless(self) -> bool:
        """Whether everybody who can reach the server may use it."""
        return not self.api_keys and self.api_keys_file is None


VARIABLES: Final[dict[str, Variable]] = {
    PREFIX + field.name.upper(): field.metadata["variable"]
    for field in dataclasses.fields(Settings)
    if "variable" in field.metadata
}

# The variables that are for some engines only.
_ENGINES: Final = {
    **dict.fromkeys(
        ("GLM_MODEL", "GLM_MAX_LENGTH", "GLM_NUM_THREADS", "GLM_CACHE_SLOTS", "GLM_RESPONSE_STORE"),
        ("chatglm-cpp", "llama-cpp"),
    ),
    "GLM_PREFILL": ("chatglm-cpp",),
    **dict.fromkeys(("GLM_MMPROJ", "GLM_GPU_LAYERS"), ("llama-cpp",)),
    **dict.fromkeys(("GLM_UPSTREAM_URL", "GLM_UPSTREAM_KEY", "GLM_UPSTREAM_MODELS"), ("openai",)),
    "GLM_UPSTREAM_CONCURRENCY": ("openai",),
}


def model_name_of(path: Path) -> str:
    """Return the id of a model file: its name without the format, ``chatglm3-6b-q4_0.bin`` -> ``chatglm3-6b``."""
    name = re.sub(_FORMATS_IN_NAMES, "", path.stem, flags=re.IGNORECASE)
    return re.sub(r"[^\w.:/@+-]", "-", name or path.stem)


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is a loopback name or address; an IPv6 address may be in brackets, as in URLs."""
    host = host.lower().removesuffix(".")
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def read_key_file(path: Path) -> tuple[str, ...]:
    """Return the API keys in ``path``, one a line; empty lines and lines that begin with ``#`` are skipped.

    Raises `OSError`, and `ValueError` if there is no key or if a line is not a key; its message does not show the line.
    """
    lines = [line.strip() for line in _read_text(path).splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ValueError("it holds no key")
    if not all(_VISIBLE_ASCII.fullmatch(key) for key in keys):
        raise ValueError("a line holds something else than one key of visible ASCII characters")
    return keys


# --- reading ------------------------------------------------------------------------------------------------------


def load_settings(environ: Mapping[str, str], fetch: Fetch = fetched, repack: Repack = repacked) -> Settings:
    """Read the settings from ``environ``. Raises `SettingsError`, which lists all errors at once.

    An empty variable counts as unset: that is how compose files and unit files leave one out. After every other setting
    has been validated, ``hf:`` files are resolved with ``fetch``, and a GGML file for llama.cpp with ``repack``.
    """
    environ = _with_env_file(environ)
    sources = _sources(environ)
    values: dict[str, Any] = {}
    lines: list[str] = []
    for name, source in sources.items():
        try:
            values[name.removeprefix(PREFIX).lower()] = VARIABLES[name].parse(environ[source])
        except ValidationError as error:
            lines += [f"{source} {message}." for message in error.messages]
    if values.get("backend") == "openai":
        # Nothing reads the model, so nothing is downloaded.
        values.pop("model", None)
        if "GLM_UPSTREAM_URL" not in sources:
            lines.append("GLM_UPSTREAM_URL is not set, and GLM_BACKEND=openai needs it.")
    elif "GLM_MODEL" not in sources and not DEMO_MODEL.exists():
        lines.append(f"GLM_MODEL is not set, and the bundled model {DEMO_MODEL} is missing.")
    if lines:
        raise SettingsError(lines)
    for name in ("model", "mmproj"):
        if isinstance(values.get(name), HubFile):
            try:
                values[name] = _fetch_all(values[name], environ, fetch)
            except HubError as error:
                raise SettingsError([f"{sources[PREFIX + name.upper()]} {error}."]) from None
    settings = Settings(**values)
    return settings if settings.backend == "openai" else _with_gguf(settings, sources, repack)


def _fetch_all(file: HubFile, environ: Mapping[str, str], fetch: Fetch) -> Path:
    """Return the path of ``file``, and fetch the other parts of a split model too, which are beside it then."""
    split = _SPLIT.search(file.path)
    if split is not None:
        for number in range(2, int(split[1]) + 1):
            part = f"-{number:05d}-of-{split[1]}.gguf"
            fetch(dataclasses.replace(file, path=_SPLIT.sub(part, file.path)), environ)
    return fetch(file, environ)


def _with_gguf(settings: Settings, sources: Mapping[str, str], repack: Repack) -> Settings:
    """Return ``settings`` with the file that llama.cpp loads, if that serves the model. Raises `SettingsError`."""
    name = sources.get("GLM_MODEL", "GLM_MODEL")
    gguf = is_gguf(settings.model)
    if settings.backend == "chatglm-cpp" and gguf:
        kind = "a GGUF file, which only llama.cpp reads: leave GLM_BACKEND out"
        raise SettingsError([f"{name} names {str(settings.model)!r}, {kind}."])
    if not gguf and settings.backend != "llama-cpp":
        return settings
    if importlib.util.find_spec("xllamacpp") is None:
        command = command_to_install("requirements-llama.txt")
        raise SettingsError([f"{name} needs llama.cpp, and the package that brings it is missing: {command}."])
    try:
        return dataclasses.replace(settings, gguf=repack(settings.model))
    except RepackError as error:
        raise SettingsError([f"{name} {error}."]) from None


def is_gguf(path: Path) -> bool:
    """Return whether ``path`` is a GGUF file, which llama.cpp reads."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        # Whoever opens the model says why that is not possible.
        return False


def needs(environ: Mapping[str, str]) -> list[str]:
    """Return the files of requirements that the model in ``environ`` needs on top of requirements.txt."""
    environ = _with_env_file(environ)
    sources = _sources(environ)
    backend, model = (environ.get(sources.get(name, ""), "").strip() for name in ("GLM_BACKEND", "GLM_MODEL"))
    projector = environ.get("GLM_MMPROJ", "").strip()
    found: list[str] = []
    if backend == "openai":
        return found
    if any(text.startswith(HUB_PREFIX) for text in (model, projector)):
        found.append("requirements-hf.txt")
    if backend == "llama-cpp" or model.endswith(".gguf") or (model and is_gguf(Path(model).expanduser())):
        found.append("requirements-llama.txt")
    return found


def remarks(environ: Mapping[str, str], settings: Settings) -> list[tuple[int, str]]:
    """Return remarks for the operator about valid settings: (logging level, one line) each."""
    given, environ = environ, _with_env_file(environ)
    heard = [
        (logging.INFO, f"{source} is used as {name}.") for name, source in _sources(environ).items() if source != name
    ]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in VARIABLES:
            # Compare without the prefix, which makes all names similar.
            known = [variable.removeprefix(PREFIX) for variable in VARIABLES]
            meant = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1)
            hint = f" Did you mean {PREFIX}{meant[0]}?" if meant else ""
            if name in ("GLM_HOST", "GLM_PORT"):
                hint = " The address is set with GLM_BIND=HOST:PORT."
            heard.append((logging.WARNING, f"{name} is not a setting of this server and is ignored.{hint}"))
    for name, value in _env_file_values(given).items():
        if name.startswith(PREFIX) and given.get(name, "").strip() not in ("", value.strip()):
            heard.append((logging.WARNING, f"{name} of GLM_ENV_FILE is overridden by the environment's own {name}."))
    for name, source in _sources(environ).items():
        engines = _ENGINES.get(name)
        if engines is not None and settings.engine not in engines:
            heard.append((logging.WARNING, f"{source} has no effect with the engine that serves ({settings.engine})."))
    cpus = len(os.sched_getaffinity(0))
    if settings.num_threads is not None and settings.num_threads > cpus:
        heard.append(
            (
                logging.WARNING,
                f"GLM_NUM_THREADS={settings.num_threads} is more than the {cpus} CPUs that the process may use: the "
                "threads wait for each other, which makes answers many times slower.",
            )
        )
    if settings.public and settings.keyless:
        heard.append(
            (logging.WARNING, f"GLM_BIND={settings.bind} is open to other machines, and no GLM_API_KEYS are set.")
        )
    return heard


def _with_env_file(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``environ`` merged over its GLM_ENV_FILE; an unreadable file is reported with the other settings.

    An empty variable counts as unset here too: it does not remove a setting of the file, such as the API keys.
    """
    return {**environ, **_env_file_values(environ), **{name: text for name, text in environ.items() if text.strip()}}


def _env_file_values(environ: Mapping[str, str]) -> dict[str, str]:
    try:
        bindings = _read_env_file(_readable_file(environ.get("GLM_ENV_FILE", "")))
    except (ValidationError, OSError, ValueError):
        return {}
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}


def _check_env_file(path: Path) -> None:
    """Raise `OSError`, and `ValueError` for a line that is not ``NAME=value``; its message does not show the line."""
    for _, value, original, error in (binding for binding in _read_env_file(path) if binding.key or binding.error):
        if error or value is None:
            text = original.string
            blank_lines = text[: len(text) - len(text.lstrip())].count("\n")
            raise ValueError(f"its line {original.line + blank_lines} is not NAME=value")


def _read_env_file(path: Path) -> list[Binding]:
    return list(parse_stream(io.StringIO(_read_text(path))))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        # Its own message would show a byte of what may be a key.
        raise ValueError("it is not UTF-8") from None


def _sources(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that each set setting comes from: its own, or its alias."""
    aliases = {name: alias for alias, name in ALIASES.items()}
    candidates = {name: (name, aliases.get(name, name)) for name in VARIABLES}
    return {
        name: next(source for source in both if environ.get(source, "").strip())
        for name, both in candidates.items()
        if any(environ.get(source, "").strip() for source in both)
    }


if __name__ == "__main__":
    # What `make serve` has to install before it starts the server.
    print(*needs(os.environ))
