"""The WSGI application: ``gunicorn -c gunicorn.conf.py wsgi:app``."""

import logging
import os

from config import SettingsError, remarks
from glm_api import create_app
from glm_api.lifecycle import settings_loader

try:
    settings = settings_loader.load(os.environ)
except SettingsError as error:
    # Exit with the lines instead of a traceback. Usually gunicorn.conf.py has failed before, with the same lines.
    raise SystemExit(str(error)) from None

for level, remark in remarks(os.environ, settings):
    logging.getLogger("glm_api").log(level, remark)

app = create_app(settings)
