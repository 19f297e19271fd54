"""Property tests here are about what comes out, not about how fast: a busy machine must not fail them."""

from hypothesis import settings

settings.register_profile("formats", deadline=None)
settings.load_profile("formats")
