"""How aiohttp is set up, for the pages of the server and for the gateway."""

from __future__ import annotations

import asyncio

from aiohttp import web

from spalloc_server.web.complaints import Complaints, ProtocolLog


async def set_up_runner(
    app: web.Application,
    complaints: Complaints,
    shutdown_seconds: float,
    auto_decompress: bool = True,
) -> tuple[web.AppRunner, web.Server]:
    """Get ready to speak HTTP; whoever takes in connections has them handled.

    What goes wrong with requests, and elsewhere in this event loop, is a complaint.

    :param shutdown_seconds: how long requests may go on when the runner is cleaned up
    :param auto_decompress: are bodies of requests unpacked?
    :return: the runner, and what makes the protocol of a connection
    """
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.note(
            "unexpected", context["message"], context.get("exception")
        )
    )
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        auto_decompress=auto_decompress,
        shutdown_timeout=shutdown_seconds,
        logger=ProtocolLog(complaints),
    )
    await runner.setup()
    assert runner.server is not None
    return runner, runner.server
