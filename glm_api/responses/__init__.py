"""``POST /v1/responses``: the stateless part of OpenAI's newer API, with text and function tools."""
