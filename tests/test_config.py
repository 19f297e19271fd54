"""The settings: all errors at once, each with its variable; aliases; remarks on valid but doubtful settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import (
    DEMO_MODEL,
    VARIABLES,
    Settings,
    SettingsError,
    load_settings,
    model_name_of,
    needs,
    remarks,
)
from hub import HubFile
from hub.repack import RepackError
from tests.support.processes import ROOT


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "glm-4-9b-chat-q4_0.bin"
    path.write_bytes(b"ggml")
    return str(path)


def error_lines(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings(environ)
    return raised.value.lines


def remark_texts(environ: dict[str, str]) -> list[str]:
    return [text for _, text in remarks(environ, load_settings(environ))]


def test_no_setting_is_required() -> None:
    assert load_settings({}) == Settings()
    assert load_settings({}).model == DEMO_MODEL
    assert load_settings({}).bind == "127.0.0.1:8000"


def test_the_environment_of_the_process_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLM_QUEUE_SIZE", "7")
    assert load_settings({}).queue_size == Settings().queue_size


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_settings({"GLM_QUEUE_SIZE": "", "GLM_MODEL": " ", "GLM_API_KEYS": ""}) == Settings()


def test_values_are_read(model: str) -> None:
    settings = load_settings(
        {
            "GLM_MODEL": model,
            "GLM_MODEL_ALIASES": "gpt-4o, gpt-3.5-turbo,",
            "GLM_QUEUE_TIMEOUT": "2.5",
            "GLM_LOG_PROMPTS": "1",
            "GLM_API_KEYS": "sk-one,sk-two",
            "GLM_CORS_ORIGINS": "https://chat.example.org, http://localhost:3000",
            "GLM_BIND": "unix:/run/glm/api.sock",
        }
    )
    assert settings.model == Path(model)
    assert settings.model_name == "glm-4-9b-chat"
    assert settings.model_aliases == ("gpt-4o", "gpt-3.5-turbo")
    assert settings.queue_timeout == 2.5
    assert settings.log_prompts is True
    assert settings.api_keys == ("sk-one", "sk-two")
    assert settings.cors_origins == ("https://chat.example.org", "http://localhost:3000")
    assert settings.bind == "unix:/run/glm/api.sock"


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("chatglm3-demo.q8_0.bin", "chatglm3-demo"),
        ("chatglm3-6b-q4_0.bin", "chatglm3-6b"),
        ("chatglm-ggml.bin", "chatglm"),
        ("glm-4-9b-ggml-f16.bin", "glm-4-9b"),
        ("codegeex2_Q5_1.bin", "codegeex2"),
        ("my model.bin", "my-model"),
        ("GLM-4.5-Air-Q4_K_XL-00001-of-00002.gguf", "GLM-4.5-Air"),
        ("glm-4-9b-0414.IQ4_XS.gguf", "glm-4-9b-0414"),
        ("GLM-4.7-Flash-BF16.gguf", "GLM-4.7-Flash"),
        ("q4_0.bin", "q4_0"),
    ],
)
def test_the_model_is_named_after_its_file(file_name: str, name: str) -> None:
    assert model_name_of(Path("/models") / file_name) == name


def test_a_relative_model_path_is_taken_from_the_current_directory(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(model).parent)
    assert load_settings({"GLM_MODEL": Path(model).name}).model == Path(model)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("GLM_MODEL", "/nowhere/model.bin", "names '/nowhere/model.bin', which does not exist"),
        ("GLM_MODEL", "~nobody-here/model.bin", "names '~nobody-here/model.bin', and there is no such user"),
        ("GLM_MODEL", "/models/\udcff.bin", "names a path that is not UTF-8"),
        ("GLM_MODEL", "/", "must name a file, but '/' is a directory"),
        ("GLM_MODEL_NAME", "a b", "must be letters, digits and . : / @ + - _ only, not 'a b'"),
        ("GLM_MODEL_ALIASES", "ok,no good", "must be letters, digits and . : / @ + - _ only, not 'no good'"),
        ("GLM_QUEUE_SIZE", "many", "must be a whole number from 0 to 10000, not 'many'"),
        ("GLM_QUEUE_SIZE", "-1", "must be a whole number from 0 to 10000, not -1"),
        ("GLM_CACHE_SLOTS", "65", "must be a whole number from 1 to 16, not 65"),
        ("GLM_NUM_THREADS", "2.5", "must be a whole number from 1 to 512, not '2.5'"),
        ("GLM_QUEUE_TIMEOUT", "nan", "must be seconds from 1 to 86400"),
        ("GLM_PING_INTERVAL", "-1", "must be seconds from 0 to 3600, not -1.0"),
        ("GLM_PREFILL", "fast", "must be auto, step or batch, not 'fast'"),
        ("GLM_LOG_PROMPTS", "maybe", "must be 1 or 0, not 'maybe'"),
        ("GLM_LOG_FORMAT", "xml", "must be text or json, not 'xml'"),
        ("GLM_BIND", "8000", "must be HOST:PORT or unix:/PATH, not '8000'"),
        ("GLM_BIND", "127.0.0.1:99999", "must have a port from 1 to 65535, but is '127.0.0.1:99999'"),
        ("GLM_BIND", "127.0.0.1:0", "must have a port from 1 to 65535, but is '127.0.0.1:0'"),
        ("GLM_BIND", ":8000", "must be HOST:PORT or unix:/PATH, not ':8000'"),
        ("GLM_CORS_ORIGINS", "example.org", "must be * or origins such as https://chat.example.org, not 'example.org'"),
        (
            "GLM_CORS_ORIGINS",
            "https://a.org/",
            "must be * or origins such as https://chat.example.org, not 'https://a.org/'",
        ),
        ("GLM_API_KEYS_FILE", "/nowhere/keys", "names '/nowhere/keys', which does not exist"),
    ],
)
def test_an_invalid_value_is_one_line_that_names_the_variable(name: str, value: str, complaint: str) -> None:
    assert error_lines(**{name: value}) == [f"{name} {complaint}."]


@pytest.mark.parametrize("value", [",", " , ,", ",,"])
@pytest.mark.parametrize("name", [name for name, row in VARIABLES.items() if "comma-separated" in row.values])
def test_a_list_without_an_entry_is_an_error(name: str, value: str) -> None:
    assert error_lines(**{name: value}) == [
        f"{name} holds nothing but commas: give at least one entry, or leave the setting out."
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it holds no key"),
        ("\n# nothing but this\n", "it holds no key"),
        ("sk-one\ntwo words\n", "a line holds something else than one key of visible ASCII characters"),
    ],
)
def test_a_key_file_without_keys_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    assert error_lines(GLM_API_KEYS_FILE=str(path)) == [f"GLM_API_KEYS_FILE names {str(path)!r}, and {complaint}."]


def test_an_empty_variable_does_not_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "glm.env"
    path.write_text("GLM_API_KEYS=sk-one\n")
    for empty in ("", " "):
        assert load_settings({"GLM_ENV_FILE": str(path), "GLM_API_KEYS": empty}).api_keys == ("sk-one",)


@pytest.mark.parametrize("value", ["glm.example.org:8000", "https://glm.example.org", "*.example.org", "a b"])
def test_an_allowed_host_is_a_bare_name(value: str) -> None:
    assert error_lines(GLM_ALLOWED_HOSTS=value) == [
        f"GLM_ALLOWED_HOSTS must be * or names such as glm.example.org, without a port, not {value!r}."
    ]


def test_an_invalid_key_is_not_shown() -> None:
    [line] = error_lines(GLM_API_KEYS="schlüssel")
    assert line == "GLM_API_KEYS may hold visible ASCII characters only."


def test_all_errors_come_at_once() -> None:
    lines = error_lines(GLM_QUEUE_SIZE="x", GLM_BIND="x", GLM_MODEL="/nowhere", GLM_LOG_LEVEL="loud")
    assert {line.split()[0] for line in lines} == {"GLM_QUEUE_SIZE", "GLM_BIND", "GLM_MODEL", "GLM_LOG_LEVEL"}


@pytest.mark.parametrize(
    "value",
    [
        "hf:",
        "hf:glm",
        "hf:glm/demo",
        "hf:glm/demo/",
        "hf:glm/demo/../x.bin",
        "hf:glm/demo/./x.bin",
        "hf:glm/demo//x.bin",
        "hf:glm/../x.bin",
        "hf:glm/de--mo/x.bin",
        "hf:-glm/demo/x.bin",
        "hf:glm/demo@/x.bin",
        "hf:glm/demo@../x.bin",
        "hf://glm/demo/x.bin",
        "hf:https://huggingface.co/glm/demo/x.bin",
        "hf:glm/demo/x y.bin",
        "hf:glm/demo/x\\y.bin",
    ],
)
def test_an_invalid_name_of_a_hub_file_is_an_error(value: str) -> None:
    assert error_lines(GLM_MODEL=value) == [
        f"GLM_MODEL must be a path or hf:OWNER/REPO[@REVISION]/FILE, not {value!r}."
    ]


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("hf:glm/demo/x-q4_0.bin", HubFile("glm/demo", "main", "x-q4_0.bin")),
        ("hf:glm/demo@main/x.bin", HubFile("glm/demo", "main", "x.bin")),
        ("hf:glm_1/de.mo-2@v1.0/ggml/模型a@b.bin", HubFile("glm_1/de.mo-2", "v1.0", "ggml/模型a@b.bin")),
    ],
)
def test_a_hub_file_is_fetched(value: str, file: HubFile, model: str) -> None:
    asked = []

    def fetch(file: HubFile, environ: Mapping[str, str]) -> Path:
        asked.append((file, environ["HF_HOME"]))
        return Path(model)

    settings = load_settings({"GLM_MODEL": value, "HF_HOME": "/cache"}, fetch)
    assert (settings.model, settings.model_name) == (Path(model), "glm-4-9b-chat")
    assert asked == [(file, "/cache")]


# --- engines ---


@pytest.fixture
def gguf(tmp_path: Path) -> str:
    path = tmp_path / "GLM-4-9B-0414-Q4_K_M.gguf"
    path.write_bytes(b"GGUF")
    return str(path)


def test_the_file_says_which_engine_serves_it(model: str, gguf: str, tmp_path: Path) -> None:
    settings = load_settings({"GLM_MODEL": gguf})
    assert (settings.engine, settings.gguf, settings.model_name) == ("llama-cpp", Path(gguf), "GLM-4-9B-0414")
    assert load_settings({"GLM_MODEL": gguf, "GLM_BACKEND": "llama-cpp"}) == replace(settings, backend="llama-cpp")
    settings = load_settings({"GLM_MODEL": model})
    assert (settings.engine, settings.gguf) == ("chatglm-cpp", None)
    # The name says nothing.
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(b"GGUF")
    assert load_settings({"GLM_MODEL": str(renamed)}).engine == "llama-cpp"


def test_chatglm_cpp_reads_no_gguf_file(gguf: str) -> None:
    assert error_lines(GLM_MODEL=gguf, GLM_BACKEND="chatglm-cpp") == [
        f"GLM_MODEL names '{gguf}', a GGUF file, which only llama.cpp reads: leave GLM_BACKEND out."
    ]


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    gguf: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    [line] = error_lines(GLM_MODEL=gguf)
    assert line.startswith("GLM_MODEL needs llama.cpp, and the package that brings it is missing: ")
    assert line.endswith("-m pip install -r " + str(ROOT / "requirements-llama.txt") + ".")
    assert load_settings({"GLM_MODEL": model}).engine == "chatglm-cpp"


def test_a_file_of_the_other_engine_is_repacked(model: str, gguf: str) -> None:
    asked = []

    def repack(path: Path) -> Path:
        asked.append(path)
        return Path(gguf)

    settings = load_settings({"GLM_MODEL": model, "GLM_BACKEND": "llama-cpp"}, repack=repack)
    assert (settings.model, settings.gguf, settings.engine) == (Path(model), Path(gguf), "llama-cpp")
    assert settings.model_name == "glm-4-9b-chat"
    assert asked == [Path(model)]


def test_a_file_that_cannot_be_repacked_is_one_line(model: str) -> None:
    def repack(path: Path) -> Path:
        raise RepackError(f"names {path.name}, but it is damaged")

    with pytest.raises(SettingsError) as raised:
        load_settings({"GLM_MODEL": model, "GLM_BACKEND": "llama-cpp"}, repack=repack)
    assert raised.value.lines == ["GLM_MODEL names glm-4-9b-chat-q4_0.bin, but it is damaged."]


def test_all_parts_of_a_split_file_are_fetched(gguf: str) -> None:
    asked = []

    def fetch(file: HubFile, environ: Mapping[str, str]) -> Path:
        asked.append(file.path)
        return Path(gguf)

    load_settings({"GLM_MODEL": "hf:a/b/x/GLM-00001-of-00003.gguf", "GLM_MMPROJ": "hf:a/b/mmproj.gguf"}, fetch)
    parts = [f"x/GLM-0000{number}-of-00003.gguf" for number in (2, 3, 1)]
    assert asked == [*parts, "mmproj.gguf"]


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, []),
        ({"GLM_MODEL": "model.bin"}, []),
        ({"GLM_MODEL": "hf:a/b/model.bin"}, ["requirements-hf.txt"]),
        ({"GLM_MODEL": "hf:a/b/model.gguf"}, ["requirements-hf.txt", "requirements-llama.txt"]),
        ({"MODEL": "model.gguf"}, ["requirements-llama.txt"]),
        ({"GLM_BACKEND": "llama-cpp"}, ["requirements-llama.txt"]),
        ({"GLM_BACKEND": "openai", "GLM_MODEL": "hf:a/b/model.gguf"}, []),
    ],
)
def test_what_a_model_needs_is_known(environ: dict[str, str], found: list[str]) -> None:
    assert needs(environ) == found


def test_the_needs_of_a_model_are_found_in_its_first_bytes_and_in_a_file_of_settings(gguf: str, tmp_path: Path) -> None:
    renamed = Path(gguf).rename(tmp_path / "model.bin")
    file = tmp_path / "glm.env"
    file.write_text(f"GLM_MODEL={renamed}\n")
    assert needs({"GLM_ENV_FILE": str(file)}) == ["requirements-llama.txt"]


@pytest.mark.parametrize(
    ("environ", "engine"),
    [
        ({"GLM_GPU_LAYERS": "3"}, "chatglm-cpp"),
        ({"GLM_MMPROJ": "{gguf}"}, "chatglm-cpp"),
        ({"GLM_UPSTREAM_KEY": "k"}, "chatglm-cpp"),
        ({"GLM_BACKEND": "openai", "GLM_UPSTREAM_URL": "http://127.0.0.1:9/v1", "GLM_RESPONSE_STORE": "off"}, "openai"),
        ({"GLM_MODEL": "{gguf}", "GLM_PREFILL": "step"}, "llama-cpp"),
        ({"GLM_BACKEND": "openai", "GLM_UPSTREAM_URL": "http://127.0.0.1:9/v1", "MAX_LENGTH": "99"}, "openai"),
    ],
)
def test_a_setting_that_the_engine_does_not_know_gets_a_remark(environ: dict[str, str], engine: str, gguf: str) -> None:
    *_, name = environ
    given = {name: value.format(gguf=gguf) for name, value in environ.items()}
    assert f"{name} has no effect with the engine that serves ({engine})." in remark_texts(given)


def test_an_unreadable_model_is_an_error(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    assert error_lines(GLM_MODEL=model) == [f"GLM_MODEL names '{model}', which this user may not read."]


def test_a_missing_demo_model_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.DEMO_MODEL", Path("/nowhere/demo.bin"))
    assert error_lines() == ["GLM_MODEL is not set, and the bundled model /nowhere/demo.bin is missing."]


@given(st.sampled_from(sorted(VARIABLES)), st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40))
def test_any_value_is_valid_or_refused_in_one_line(name: str, value: str) -> None:
    try:
        load_settings({name: value})
    except SettingsError as error:
        [line] = error.lines
        assert line.startswith(name + " ")
        assert line == "".join(line.splitlines())


def test_an_upstream_needs_its_url_and_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert error_lines(GLM_BACKEND="openai") == ["GLM_UPSTREAM_URL is not set, and GLM_BACKEND=openai needs it."]
    monkeypatch.setattr("config.DEMO_MODEL", Path("/nowhere/demo.bin"))

    def fetch(file: HubFile, environ: Mapping[str, str]) -> Path:
        raise AssertionError("nothing would read the file")

    environ = {"GLM_BACKEND": "openai", "GLM_UPSTREAM_URL": "https://engine:8443/v1/", "GLM_MODEL": "hf:a/b/c.bin"}
    settings = load_settings(environ | {"GLM_UPSTREAM_MODELS": "glm=THUDM/glm-4, small=x"}, fetch)
    assert settings.upstream_url == "https://engine:8443/v1"
    assert settings.upstream_models == (("glm", "THUDM/glm-4"), ("small", "x"))


@pytest.mark.parametrize(
    "value", ["engine:8000", "ftp://engine/v1", "http://", "http://user:secret@engine", "http://e/v1?x=1", "http://e:x"]
)
def test_the_url_of_an_upstream_is_checked(value: str) -> None:
    [line] = error_lines(GLM_UPSTREAM_URL=value)
    assert line.startswith("GLM_UPSTREAM_URL must be http:// or https://")
    assert "secret" not in line


def test_the_original_servers_names_work(model: str) -> None:
    environ = {"MODEL": model, "MAX_LENGTH": "512", "NUM_THREADS": "2"}
    settings = load_settings(environ)
    assert (settings.model, settings.max_length, settings.num_threads) == (Path(model), 512, 2)
    assert remarks(environ, settings) == [
        (logging.INFO, "MODEL is used as GLM_MODEL."),
        (logging.INFO, "MAX_LENGTH is used as GLM_MAX_LENGTH."),
        (logging.INFO, "NUM_THREADS is used as GLM_NUM_THREADS."),
    ]


def test_a_glm_name_wins_over_the_original_servers() -> None:
    environ = {"MAX_LENGTH": "512", "GLM_MAX_LENGTH": "1024"}
    assert load_settings(environ).max_length == 1024
    assert remark_texts(environ) == []


def test_an_error_names_the_original_servers_variable_if_that_one_is_set() -> None:
    assert error_lines(MAX_LENGTH="long") == ["MAX_LENGTH must be a whole number from 16 to 1048576, not 'long'."]


def test_an_unknown_name_gets_a_remark_with_a_suggestion() -> None:
    assert remark_texts({"GLM_QUEUE_SIZES": "4", "GLM_FOO": "1", "PATH": "/bin"}) == [
        "GLM_FOO is not a setting of this server and is ignored.",
        "GLM_QUEUE_SIZES is not a setting of this server and is ignored. Did you mean GLM_QUEUE_SIZE?",
    ]


@pytest.mark.parametrize("name", ["GLM_HOST", "GLM_PORT"])
def test_the_names_that_people_guess_for_the_address_get_a_hint(name: str) -> None:
    assert remark_texts({name: "8080"}) == [
        f"{name} is not a setting of this server and is ignored. The address is set with GLM_BIND=HOST:PORT."
    ]


@pytest.mark.parametrize(("value", "meaning"), [("1", True), ("yes", True), ("TRUE", True), ("off", False)])
def test_a_switch_may_be_a_word(value: str, meaning: bool) -> None:
    assert load_settings({"GLM_LENIENT": value}).lenient is meaning


def test_only_an_overridden_setting_of_the_file_gets_a_remark(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("GLM_PREFILL=step\n")
    assert remark_texts({"GLM_ENV_FILE": str(file), "GLM_PREFILL": "step"}) == []
    assert len(remark_texts({"GLM_ENV_FILE": str(file), "GLM_PREFILL": "batch"})) == 1


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:80", "glm.example.org:80", "127.example.org:80", "localhosts:80"]
)
def test_a_public_address_without_keys_gets_a_remark(bind: str) -> None:
    environ = {"GLM_BIND": bind}
    assert remarks(environ, load_settings(environ)) == [
        (logging.WARNING, f"GLM_BIND={bind} is open to other machines, and no GLM_API_KEYS are set.")
    ]
    assert remark_texts({**environ, "GLM_API_KEYS": "sk-one"}) == []


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "127.9.9.9:80", "localhost:80", "[::1]:8000", "unix:/run/glm.sock"])
def test_a_local_address_needs_no_keys(bind: str) -> None:
    assert remark_texts({"GLM_BIND": bind}) == []


def test_more_threads_than_cpus_get_a_remark() -> None:
    cpus = len(os.sched_getaffinity(0))
    [text] = remark_texts({"GLM_NUM_THREADS": str(cpus + 1)})
    assert text.startswith(f"GLM_NUM_THREADS={cpus + 1} is more than the {cpus} CPUs that the process may use")
    assert remark_texts({"GLM_NUM_THREADS": str(cpus)}) == []


def test_keys_do_not_show_in_the_settings_repr() -> None:
    assert "sk-one" not in repr(load_settings({"GLM_API_KEYS": "sk-one"}))


def test_the_environment_overrides_the_settings_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "glm.env"
    path.write_text(
        "# ours\nGLM_QUEUE_SIZE=5\nGLM_CACHE_SLOTS=2\nGLM_MODEL_NAME='glm $x'\nGLM_MODEL_NAME=glm\nGLM_FOO=1\n"
    )
    environ = {"GLM_ENV_FILE": str(path), "GLM_CACHE_SLOTS": "3"}
    settings = load_settings(environ)
    assert (settings.queue_size, settings.cache_slots, settings.model_name) == (5, 3, "glm")
    assert remark_texts(environ) == [
        "GLM_FOO is not a setting of this server and is ignored.",
        "GLM_CACHE_SLOTS of GLM_ENV_FILE is overridden by the environment's own GLM_CACHE_SLOTS.",
    ]


def test_an_invalid_value_in_the_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "glm.env"
    path.write_text("GLM_QUEUE_SIZE=many\n")
    assert error_lines(GLM_ENV_FILE=str(path)) == ["GLM_QUEUE_SIZE must be a whole number from 0 to 10000, not 'many'."]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("GLM_QUEUE_SIZE 5\n", "its line 1 is not NAME=value"),
        ("# a comment\n\n\nGLM_API_KEYS: sk-one\n", "its line 4 is not NAME=value"),
        ("export GLM_QUEUE_SIZE=5\nGLM_LENIENT\n=1\n", "its line 2 is not NAME=value"),
        ("GLM_QUEUE_SIZE='5\n", "its line 1 is not NAME=value"),
        ("GLM_QUEUE_SIZE=\udcff\n", "it is not UTF-8"),
    ],
)
def test_a_line_of_the_file_without_a_value_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "glm.env"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert error_lines(GLM_ENV_FILE=str(path)) == [f"GLM_ENV_FILE names {str(path)!r}, and {complaint}."]


def test_all_errors_of_a_file_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "glm.env"
    path.write_text("GLM_QUEUE_SIZE=many\nGLM_LENIENT\n")
    assert {line.split()[0] for line in error_lines(GLM_ENV_FILE=str(path))} == {"GLM_QUEUE_SIZE", "GLM_ENV_FILE"}


def test_a_file_in_the_home_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "glm.env").write_text("GLM_QUEUE_SIZE=5\n")
    assert load_settings({"GLM_ENV_FILE": "~/glm.env"}).queue_size == 5


def test_a_missing_file_is_an_error() -> None:
    assert error_lines(GLM_ENV_FILE="/nowhere/env") == ["GLM_ENV_FILE names '/nowhere/env', which does not exist."]


@pytest.mark.parametrize("text", ["memory", "off"])
def test_responses_are_stored_in_memory_or_not_at_all(text: str) -> None:
    assert load_settings({"GLM_RESPONSE_STORE": text}).response_store == text


@pytest.mark.parametrize("content", [None, b"", b"SQLite format 3\0 and more"])
def test_responses_are_stored_in_a_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "responses.db"
    if content is not None:
        path.write_bytes(content)
    assert load_settings({"GLM_RESPONSE_STORE": str(path)}).response_store == path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("memroy", "must be memory, off or a path such as"),
        ("{folder}", "is a directory"),
        ("{folder}/none/responses.db", "there is no folder"),
        ("{folder}/model.bin", "is not an SQLite file"),
    ],
)
def test_a_place_that_cannot_store_responses_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "model.bin").write_bytes(b"ggml")
    [line] = error_lines(GLM_RESPONSE_STORE=text.format(folder=tmp_path))
    assert line.startswith("GLM_RESPONSE_STORE ")
    assert complaint in line


@pytest.mark.parametrize("locked", ["responses.db", "."])
def test_a_place_that_this_user_may_not_write_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    file = tmp_path / "responses.db"
    file.touch()
    # Root may write everywhere, and the tests may run as root.
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path / locked and mode & os.W_OK))
    [line] = error_lines(GLM_RESPONSE_STORE=str(file))
    assert line == f"GLM_RESPONSE_STORE names {str(file)!r}, where this user may not write."
