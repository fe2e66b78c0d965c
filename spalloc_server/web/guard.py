"""What stands before every request: whose it is, when its turn is, and what it may
cost the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from aiohttp import web

from spalloc_server.web.complaints import Complaints
from spalloc_server.web.connections import Connections
from spalloc_server.web.hosts import ServedHosts
from spalloc_server.web.pace import Pace

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

NOT_SERVED: Final = (
    "nothing is served under this name; to serve it, start the server with "
    "--http-host NAME\n"
)


class Guard:
    """A middleware. For one event loop."""

    def __init__(self, hosts: ServedHosts, pace: Pace, complaints: Complaints) -> None:
        """Guard by these rules.

        :param hosts: the names by which the pages may be asked for
        :param pace: decides when requests go on
        :param complaints: told what goes wrong
        """
        self._hosts = hosts
        self._pace = pace
        self._complaints = complaints
        self.connections: Connections | None = None
        """Told when requests begin and end."""

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Serve a request, if and when it is to be served."""
        transport = request.transport
        if self.connections is not None:
            self.connections.request_began(transport)
        try:
            self._check_host(request)
            await self._pace.wait()
            return await handler(request)
        except ConnectionError:
            raise  # whoever asked is gone
        except (web.HTTPException, TimeoutError):
            raise
        except Exception as e:
            self._complaints.note("internal error", request.path, exc_info=e)
            return web.Response(status=500, text="internal error\n")
        finally:
            if self.connections is not None:
                self.connections.request_ended(transport)

    def _check_host(self, request: web.Request) -> None:
        hosts = request.headers.getall("Host", [])
        if not hosts and request.version < (1, 1):
            return  # no browser; checks of load balancers are like this
        if len(hosts) != 1:
            raise web.HTTPBadRequest(text="exactly one Host is needed\n")
        here = request.get_extra_info("sockname") or ("",)
        if not self._hosts.serves(hosts[0], str(here[0])):
            self._complaints.note("a request for a name that is not served", hosts[0])
            raise web.HTTPMisdirectedRequest(text=NOT_SERVED)
