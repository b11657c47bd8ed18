"""`plan --explain`: one item's whole story."""

from dataclasses import dataclass
from typing import Any

from retentiond.cli.media import media_targets
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Scope, Session
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import Target
from retentiond.model.errors import UsageError
from retentiond.model.media import parse_media_uri
from retentiond.model.text import printable
from retentiond.terminal.progress import watched
from retentiond.terminal.story import show_story


@dataclass(frozen=True, slots=True)
class Explain:
    """Tell of one item each policy, all that keeps it, and what comes of it."""

    scope: Scope
    media: str
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Tell it as one target after another knows it."""
        if parse_media_uri(self.media) is None:
            raise UsageError(f"`{printable(self.media)}` is no medium; write it as mxc://SERVER/ID")
        targets = media_targets(session, self.scope, "only media can be explained: name another TARGET")
        stories: list[dict[str, Any]] = []

        async def errand(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                story = await target.explain(self.media, progress)
            stories.append(story.as_json())
            if not self.as_json:
                show_story(session.out, story)
            return 0

        try:
            return session.run(session.for_each(targets, errand))
        finally:
            if self.as_json:
                session.document({"stories": stories})
