"""What the endpoints share: JSON bodies, schemas, prompts, usage, chunks and server-sent events."""
