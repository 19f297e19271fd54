"""The engine llama.cpp, which xllamacpp brings. Nothing else imports xllamacpp."""
