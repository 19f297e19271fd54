"""What gunicorn serves: ``gunicorn -c gunicorn.conf.py wsgi:app``."""

import logging
import os

from config import SettingsError, load_settings, remarks
from glm_api import create_app
from glm_api.pipeline import pipeline
from glm_api.pipeline.cpus import child_environment, usable_cpus
from glm_api.pipeline.facade import PipelineSettings

try:
    settings = load_settings(os.environ)
except SettingsError as error:
    # One clean exit with the lines and no traceback; gunicorn.conf.py has usually said the same before.
    raise SystemExit(str(error)) from None

for level, remark in remarks(os.environ, settings):
    logging.getLogger("glm_api").log(level, remark)

pipeline.configure(
    PipelineSettings(
        model=str(settings.model),
        max_length=settings.max_length,
        cache_slots=settings.cache_slots,
        prefill=settings.prefill,
        queue_size=settings.queue_size,
        queue_timeout=settings.queue_timeout,
        request_timeout=settings.request_timeout,
        environment=child_environment(settings.num_threads or usable_cpus()),
    )
)
app = create_app(settings, pipeline)
