"""The chatglm-cpp backend: the web side of its child processes, the formats of the model families, the worker."""
