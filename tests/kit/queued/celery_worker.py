"""The application of a Celery worker: python -m celery -A kit.queued.celery_worker worker."""

from __future__ import annotations

import os

from aksara_signals.contrib.outbox.transports.celery import celery_receiver
from kit.queued import places, receivers
from kit.queued.celery_apps import make_app, template

receivers.connect_here()
app = make_app(os.environ[places.BROKER], os.environ[places.PREFIX])
celery_receiver(app, places.sessions_here(), queue=template(os.environ[places.PREFIX]))
