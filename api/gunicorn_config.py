"""How gunicorn runs the API. Read by gunicorn; the reasons stand beside the values."""

from __future__ import annotations

import os

from engine.config import from_environment

_settings = from_environment(os.environ)

wsgi_app = "api.wsgi:app()"
proc_name = "stockade-api"

# A thread waits for Redis most of its time, so a few of them keep a worker's core busy.
worker_class = "gthread"
workers = _settings.workers
threads = _settings.threads

# Storefront back ends keep connections open; longer than their usual idle time, shorter than a load balancer's.
keepalive = 75

# A worker that does nothing for this long is replaced; the longest honest wait is three tries at Redis.
timeout = 30
graceful_timeout = 10

# Nothing listens on these; they would only be shared between services of one user.
control_socket_disable = True

# 100 SKUs of 64 characters in one query.
limit_request_line = 8190

# Whoever connects from this machine may not say under which path the service is mounted.
forwarder_headers = ""

accesslog = None
errorlog = "-"
loglevel = "warning"
