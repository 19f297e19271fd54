"""``/v1/responses``: OpenAI's newer API, with text, function tools and stored responses."""
