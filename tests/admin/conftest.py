import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client


@pytest.fixture
def viewer(db: None) -> Client:
    """A client of somebody who may look at everything of flexmeter, and do nothing."""
    user = User.objects.create_user("viewer", password="viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="flexmeter", codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def outsider(db: None) -> Client:
    """A client of a member of staff without any permission."""
    client = Client()
    client.force_login(User.objects.create_user("outsider", password="outsider", is_staff=True))
    return client
