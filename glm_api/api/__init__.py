"""What the endpoints share: JSON in, schemas, prompts, usage, chunks, server-sent events out."""
