"""Entry point of the web server: pages over HTTP, notices over one WebSocket per tab."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
pages = get_asgi_application()  # loads the apps; the imports below need them

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import path  # noqa: E402

from console.bodies import LimitedBodies  # noqa: E402
from console.consumers import LiveConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        # Django's handler is annotated a little narrower than ASGI.
        "http": LimitedBodies(pages, settings.DATA_UPLOAD_MAX_MEMORY_SIZE),  # type: ignore[arg-type]
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([path("live/", LiveConsumer.as_asgi())]))
        ),
    }
)
