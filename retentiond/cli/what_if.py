"""`plan --what-if`: what would go if the policies let media stay for other times."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from retentiond.cli.media import media_targets
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Scope, Session
from retentiond.config.schema import TargetConfig
from retentiond.config.units import UnitError, parse_duration
from retentiond.engine.target import Target
from retentiond.model.errors import UsageError
from retentiond.model.report import PassReport
from retentiond.model.text import printable
from retentiond.terminal.progress import watched
from retentiond.terminal.what_if import show_what_if

_MOST: Final = 20
_SHOWN: Final = ("removed", "kept", "refused")


def parse_ages(text: str) -> dict[str, timedelta]:
    """Read `7d,30d,90d` into ages as they were written; raise UsageError."""
    written = [age.strip() for age in text.split(",", _MOST)]
    if len(written) > _MOST:
        raise UsageError(f"--what-if: {_MOST} ages at most; each is a plan of its own")
    try:
        return {age: parse_duration(age) for age in written}
    except UnitError as error:
        raise UsageError(f"--what-if: `{printable(text, 80)}`: {error}") from None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Plan as things are, and then as if each policy kept media so long; what is kept for ever still is."""

    scope: Scope
    ages: Mapping[str, timedelta]
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Plan for one target after another, an age at a time."""
        passes: list[dict[str, Any]] = []

        async def errand(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                report = await target.plan(None, progress)
                supposed = {
                    age: await target.plan(None, progress, keep=keep) for age, keep in self.ages.items()
                }
            passes.append(
                report.as_json() | {"what_if": [_as_json(age, plan) for age, plan in supposed.items()]}
            )
            if not self.as_json:
                show_what_if(session.out, report, supposed)
            return report.exit_status

        targets = media_targets(
            session, self.scope, "only policies of media have ages to try: name another TARGET"
        )
        try:
            return session.run(session.for_each(targets, errand))
        finally:
            if self.as_json:
                session.document({"passes": passes})


def _as_json(age: str, plan: PassReport) -> dict[str, Any]:
    account = plan.as_json()
    return {"keep": age} | {key: account[key] for key in _SHOWN}
