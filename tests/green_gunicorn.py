"""How gunicorn runs ``green_app.py``: imported in each worker, or before gevent has patched anything."""

import os
import platform

platform.platform()

bind = f"127.0.0.1:{os.environ['PORT']}"
worker_class = "gevent"
workers = int(os.environ["WORKERS"])
wsgi_app = "green_app:application"
preload_app = os.environ["PATCHED"] == "last"
graceful_timeout = 10
control_socket_disable = True

if preload_app:
    import green_app  # noqa: F401
