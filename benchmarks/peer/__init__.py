"""What a Django project would write by itself with Django REST Framework, and the web server that serves it beside flexmeter."""
