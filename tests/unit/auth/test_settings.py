import ast
import inspect

import pytest

from caravan.contracts.errors import InvalidRequestError
from caravan.kit.settings import from_environ
from services.auth import settings
from services.auth.settings import Settings


def test_the_database_must_be_named_and_does_not_print():
    with pytest.raises(InvalidRequestError, match="AUTH_DATABASE_URL"):
        from_environ(Settings, "auth", {})
    found = from_environ(Settings, "auth", {"AUTH_DATABASE_URL": "postgresql://me:s3cret@h/d"})
    assert found.host == "127.0.0.1"
    assert "s3cret" not in repr(found)


def test_every_setting_has_its_manual():
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(settings)).body
        if isinstance(node, ast.ClassDef)
    )
    for field, after in zip(body[1:], [*body[2:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(after, ast.Expr), f"{field.target.id} has no docstring under it"
