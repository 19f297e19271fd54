"""The WSGI application: ``gunicorn -c gunicorn.conf.py wsgi:app``."""

import logging
import os

from config import SettingsError, load_settings_or_keep, remarks
from glm_api import create_app

try:
    settings = load_settings_or_keep(os.environ)
except SettingsError as error:
    # One clean exit with the lines and no traceback; gunicorn.conf.py has usually said the same before.
    raise SystemExit(str(error)) from None

for level, remark in remarks(os.environ, settings):
    logging.getLogger("glm_api").log(level, remark)

app = create_app(settings)
