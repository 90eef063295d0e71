"""The routes of the OpenAI API that are not hot: models, and what a hot one says to no POST."""

from typing import Any

from litestar import HttpMethod, Request, Response, get, route
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from caravan.contracts.keys import KeyEntry
from services.router.api.edge import story_of
from services.router.api.gate import Gate
from services.router.core import admission, models
from services.router.core.dialects import DEFAULT, DIALECTS
from services.router.core.errors import MethodNotAllowedError
from services.router.core.ports import Views

_OTHERS = [HttpMethod.GET, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE, HttpMethod.HEAD]


def handlers(gate: Gate, views: Views) -> list[ControllerRouterHandler]:
    """Return the route handlers."""

    @get("/v1/models")
    async def list_models(request: Request[Any, Any, Any]) -> Response[models.ModelList]:
        """Models that the key of the request may name."""
        key = await _key(gate, request)
        return Response(models.ModelList(data=models.of(key, views)))

    @get("/v1/models/{model:path}")
    async def get_model(
        request: Request[Any, Any, Any], model: FromPath[str]
    ) -> Response[models.Model]:
        """One model; its id holds a slash."""
        key = await _key(gate, request)
        path, story = str(model).lstrip("/"), story_of(request.scope)
        entry = await gate.deployment(path, key, story.client)
        story.deployment = path
        return Response(models.model(admission.deployment_of(path, key), entry, views))

    @route(list(DIALECTS), http_method=_OTHERS, sync_to_thread=False)
    def not_post(request: Request[Any, Any, Any]) -> None:
        """POST never comes here: see the lane."""
        raise MethodNotAllowedError(f"Use POST for {request.url.path}.", allow="POST")

    return [list_models, get_model, not_post]


async def _key(gate: Gate, request: Request[Any, Any, Any]) -> KeyEntry:
    story = story_of(request.scope)
    headers = {name.encode(): value.encode("latin-1") for name, value in request.headers.items()}
    key = await gate.key(DEFAULT.key(headers), DEFAULT.no_key, story.client)
    story.key = key.id
    return key
