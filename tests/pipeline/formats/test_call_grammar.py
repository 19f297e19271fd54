"""Whatever the grammar of a call admits is read as a call with arguments that fit the schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from glm_api.pipeline.formats.call_grammar import Rules, json_value, python_call
from glm_api.pipeline.formats.python_call import read_call
from glm_api.pipeline.worker.constraints import Constraints
from glm_api.pipeline.worker.model_file import inspect
from glm_api.pipeline.worker.vocabulary import read_vocabulary
from tests.support.model_files.fixtures import DEMO_MODEL, OpenModel
from tests.support.schemas import random_answer, random_parameters

VOCABULARY = read_vocabulary(inspect(DEMO_MODEL))


@pytest.fixture(scope="module")
def constraints(open_demo: OpenModel) -> Constraints:
    size = open_demo.pipeline.model.config.vocab_size
    return Constraints(VOCABULARY, size, open_demo.tokenizer.end_ids, open_demo.tokenizer.encode)


def answer(constraints: Constraints, end_ids: frozenset[int], rules: Rules, start: str, seed: int) -> str | None:
    text = random_answer(constraints.compile(rules.text(start)), VOCABULARY.pieces, end_ids, seed)
    return None if text is None else text.decode()


def call(parameters: dict[str, Any]) -> tuple[Rules, str]:
    rules = Rules()
    return rules, python_call(rules, parameters)


@pytest.mark.parametrize("seed", range(100))
def test_a_python_call_is_read_and_fits_its_schema(constraints: Constraints, open_demo: OpenModel, seed: int) -> None:
    parameters = random_parameters(seed)
    text = answer(constraints, open_demo.tokenizer.end_ids, *call(parameters), seed)
    if text is not None:
        arguments = read_call(text, "f")
        assert arguments is not None, text
        jsonschema.validate(json.loads(arguments), parameters)


@pytest.mark.parametrize("seed", range(100))
def test_json_fits_its_schema(constraints: Constraints, open_demo: OpenModel, seed: int) -> None:
    parameters = random_parameters(seed)
    rules = Rules()
    text = answer(constraints, open_demo.tokenizer.end_ids, rules, rules.rule(json_value(parameters)), seed)
    if text is not None:
        jsonschema.validate(json.loads(text), parameters)
