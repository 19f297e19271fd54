"""Measures this server beside chatglm_cpp's bare loop and beside chatglm_cpp's own server (docs/performance.md)."""
