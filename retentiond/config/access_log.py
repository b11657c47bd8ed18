"""The access log of a reverse proxy, as the configuration names it."""

from typing import Literal

from pydantic import Field

from retentiond.config.section import Section
from retentiond.config.values import AbsolutePath


class AccessLogConfig(Section):
    """The access log of a reverse proxy before dendrite."""

    path: AbsolutePath = Field(
        description="The current log file; rotated files beside it are read to their end first.",
        examples=["/var/log/nginx/access.log"],
    )
    format: Literal["nginx", "caddy"] = Field(
        description="nginx: its combined format (never with escape=none, which lets clients write lines into the log). caddy: its JSON.",
        examples=["nginx"],
    )
