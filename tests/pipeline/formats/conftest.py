"""Lift the time limit of property tests here: they are about results, and a busy machine must not fail them."""

from hypothesis import settings

settings.register_profile("formats", deadline=None)
settings.load_profile("formats")
