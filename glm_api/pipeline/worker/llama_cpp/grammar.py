"""Write grammars for the llguidance that llama.cpp is built with, which is older than ours."""

from __future__ import annotations

import json
import re
from typing import Any

# A rule that is nothing but a JSON schema.
_SCHEMA_RULE = re.compile(r"^(\w+: )%json (\{.*\})$", flags=re.MULTILINE)
# The key of our layout that llama.cpp does not know: the escapes that a string may have.
_UNKNOWN = "json_allowed_escapes"
_OF_PLAIN_STRINGS = frozenset({"type", "minLength", "maxLength", "x-guidance"})
# A character of a JSON string, with the escapes of `call_grammar.LAYOUT` and no others.
_CHARACTER = r'([^"\\\x00-\x1f\x7f]|\\["\\bfnrt])'


def for_llama_cpp(grammar: str) -> str:
    """Return ``grammar``, in Lark syntax, with rules that llama.cpp takes.

    Only the strings of which a schema says more than their length may have other escapes than with chatglm-cpp.
    """
    return _SCHEMA_RULE.sub(_rewritten, grammar)


def _rewritten(rule: re.Match[str]) -> str:
    schema: dict[str, Any] = json.loads(rule[2])
    if schema.get("type") == "string" and schema.keys() <= _OF_PLAIN_STRINGS:
        fewest, most = int(schema.get("minLength", 0)), schema.get("maxLength", "")
        return f'{rule[1]}/"{_CHARACTER}{{{fewest},{most}}}"/'
    layout = {key: value for key, value in schema.get("x-guidance", {}).items() if key != _UNKNOWN}
    return f"{rule[1]}%json {json.dumps({**schema, 'x-guidance': layout}, ensure_ascii=False)}"
