"""Tiny GGUF models of the GLM family, whose answers a test writes beforehand. ``models.py`` has the entry point."""
