"""The one pipeline, and the semaphore that serializes access to it.

chatglm_cpp answers one prompt at a time, so there is one of each, here, for the whole server.
"""

from glm_api.backend.semaphore import FairSemaphore
from glm_api.pipeline.facade import Pipeline

semaphore = FairSemaphore()
pipeline = Pipeline(semaphore)
