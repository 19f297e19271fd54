"""Tiny model files of every family, for tests that run chatglm_cpp itself."""
