"""How gunicorn serves the example: `gunicorn --config example_project/gunicorn.conf.py`. It listens on PORT."""

from pathlib import Path

wsgi_app = "config.wsgi"
pythonpath = str(Path(__file__).resolve().parent)
workers = 2
threads = 4
loglevel = "warning"
control_socket_disable = True
