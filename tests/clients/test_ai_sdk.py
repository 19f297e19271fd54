"""Vercel's AI SDK with its provider of Anthropic's API, which validates every answer and event strictly."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE
from tests.support.server import Server

HEAD = """
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [address, stream] = process.argv.slice(1);
const provider = createAnthropic({ baseURL: address, apiKey: "none" });
const answered = async (request) => {
  const whole = { model: provider("chatglm3-demo"), temperature: 0, maxOutputTokens: 100, maxRetries: 0, ...request };
  if (stream !== "true") return await generateText(whole);
  const streamed = streamText({ ...whole, onError: ({ error }) => { throw error; } });
  const steps = await streamed.steps;
  return { text: await streamed.text, finishReason: await streamed.finishReason, steps };
};
"""


def run(url: str, node: str, clients: Path, program: str, *, stream: bool) -> object:
    """Run the program and return the JSON that it prints."""
    command = [node, "--input-type=module", "--eval", HEAD + program, url, str(stream).lower()]
    done = subprocess.run(command, cwd=clients, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("base", ["/v1", ""])
def test_a_text_is_answered(demo: Server, node: str, node_clients: Path, base: str, stream: bool) -> None:
    program = """
const { text, finishReason } = await answered({ prompt: "What is the capital of France?" });
console.log(JSON.stringify({ text, finishReason }));
"""
    found = run(demo.url + base, node, node_clients, program, stream=stream)
    assert found == {"text": "The capital of France is Paris.", "finishReason": "stop"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_is_answered(demo: Server, node: str, node_clients: Path, stream: bool) -> None:
    program = """
const getWeather = tool({
  description: "Get the weather of a city",
  inputSchema: z.object({ city: z.string().describe("City name") }),
  execute: async ({ city }) => ({ temperature: 17, condition: "cloudy" }),
});
const { text, steps } = await answered({
  prompt: "What is the weather in Paris?",
  tools: { get_weather: getWeather },
  stopWhen: stepCountIs(3),
});
const calls = steps.flatMap((step) => step.toolCalls).map(({ toolName, input }) => [toolName, input]);
console.log(JSON.stringify({ text, calls }));
"""
    found = run(f"{demo.url}/v1", node, node_clients, program, stream=stream)
    assert isinstance(found, dict)
    assert found["calls"] == [["get_weather", {"city": "Paris"}]]
    assert "17" in found["text"]
