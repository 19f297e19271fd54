"""``POST /v1/messages``: Anthropic's API, with text, images, function tools and thinking."""
