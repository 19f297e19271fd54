"""Measure this server beside chatglm_cpp's bare loop and beside ``chatglm_cpp.openai_api`` (docs/performance.md)."""
