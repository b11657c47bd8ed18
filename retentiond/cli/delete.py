"""`delete`: items named by hand, with a plan and a question first; the quarantine brings them back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import typer

from retentiond.cli.options import Json, Media, Origin, Targets, User, Wait, commands, example
from retentiond.cli.outcome import may_show_bars, print_outcome, print_problems
from retentiond.cli.session import Scope, Session, Work, agreed, patience_of, refuse_unasked
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import PurgesRooms, TakesRequests
from retentiond.engine.target import PATIENCE, PassOptions, Stop, Target
from retentiond.model.errors import FAILED, RefusedError, UsageError
from retentiond.model.report import PassReport
from retentiond.model.request import Request, RequestKind, read_request
from retentiond.model.text import printable
from retentiond.targets import registry
from retentiond.terminal.account import rooms_in_words, show_pass, uploaders_in_words
from retentiond.terminal.progress import watched
from retentiond.terminal.words import count_in_words, size_in_words

app = commands()
_ANSWER = "a purge of a room cannot be undone: the plan needs confirmation"


@app.command(
    epilog=example(
        "retentiond delete --media mxc://example.org/abc",
        "retentiond delete media --user @spam:example.org --dry-run",
        "retentiond delete --room '!abc:example.org' --even-protected --yes",
        "retentiond delete --room '!abc:example.org' --and-purge",
    ),
)
def delete(
    targets: Targets = None,
    media: Media = None,
    user: User = None,
    origin: Origin = None,
    room: Annotated[
        str | None,
        typer.Option(
            metavar="!ROOM:SERVER",
            help="Media that only this room refers to; of local uploads, those sent there by their uploader.",
        ),
    ] = None,
    even_protected: Annotated[
        bool, typer.Option("--even-protected", help="Delete protected media, too; holds still keep them.")
    ] = False,
    and_purge: Annotated[
        bool,
        typer.Option(
            "--and-purge",
            help="With --room: afterwards let local users leave the room, and purge it from dendrite, for good.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
    wait: Wait = None,
    as_json: Json = False,
) -> Work:
    """Delete media by name, whatever their age.

    The plan is printed first, and needs confirmation. Deleted media go to quarantine, and `quarantine restore` brings
    them back. The limits of passes do not apply. Use one of --media, --user, --origin and --room. Without TARGET all
    targets are searched. With --and-purge the room itself is purged after its media, which cannot be undone.
    """
    said: dict[RequestKind, str | None] = {"media": media, "user": user, "origin": origin, "room": room}
    request = read_request(said, even_protected=even_protected)
    scope, patience = Scope(tuple(targets or ())), patience_of(wait)
    if and_purge:
        if request.kind != "room":
            raise UsageError("--and-purge needs --room !ID: it purges that room")
        return DeleteRoom(scope, request, yes, dry_run, as_json, patience)
    return Delete(scope, request, yes, dry_run, as_json, patience)


_ASKED = 5
"""How many uploaders and rooms the question names; the plan before it names more."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Plan, ask, and delete."""

    scope: Scope
    request: Request
    yes: bool = False
    dry_run: bool = False
    as_json: bool = False
    patience: float = PATIENCE

    def __call__(self, session: Session) -> int:
        """Plan for all targets, ask once, and delete in one target after another."""
        targets = session.capable(
            self.scope, TakesRequests, "no media to delete; `retentiond purge-chats` deletes chats"
        )
        if targets and not (self.yes or self.dry_run):
            refuse_unasked(session, "the plan needs confirmation")
        reports: list[PassReport] = []
        try:
            return self._work(session, targets, reports)
        finally:
            if self.as_json:
                session.document({"passes": [report.as_json() for report in reports]})

    def _work(self, session: Session, targets: Mapping[str, TargetConfig], reports: list[PassReport]) -> int:
        """Fill `reports` with the plans, or with the passes once they ran."""
        status = session.run(self._plan(session, targets, reports))
        if self.dry_run or not targets:  # other hosts work on them
            return status
        refused = any(plan.refused for plan in reports)
        if status or refused or not any(plan.removed for plan in reports):
            if self._unseen(session):
                for plan in reports:
                    print_problems(session, plan)
            return status or (RefusedError.exit_status if refused else self._nothing(session, reports))
        if not self.yes and not agreed(session, self._question(reports)):
            session.note("nothing was deleted")
            return 0
        wanted = {plan.target: targets[plan.target] for plan in reports if plan.removed}
        reports.clear()
        return self._delete(session, wanted, reports)

    async def _plan(
        self, session: Session, targets: Mapping[str, TargetConfig], plans: list[PassReport]
    ) -> int:
        async def on_target(target: TakesRequests, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                report = await target.plan(None, progress, self.request)
            plans.append(report)
            if not self._unseen(session):
                # With --json standard output holds the document only.
                show_pass(session.err if self.as_json else session.out, report, ())
            return report.exit_status

        return await session.for_each(targets, on_target)

    def _unseen(self, session: Session) -> bool:
        # A question needs its plan on the screen, even with --quiet.
        return session.options.quiet and self.yes

    def _delete(self, session: Session, targets: Mapping[str, TargetConfig], passes: list[PassReport]) -> int:
        stop = Stop()

        async def on_target(target: Target, config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                report = await target.run_pass(
                    PassOptions(
                        "delete",
                        request=self.request,
                        patience=self.patience,
                        keep_records=session.keep_records,
                        progress=progress,
                        stop=stop,
                    )
                )
            passes.append(report)
            await print_outcome(session, target, config, report, self.scope, shown=not self.as_json)
            return report.exit_status

        return session.run(session.for_each(targets, on_target, stop), stop)

    def _nothing(self, session: Session, plans: list[PassReport]) -> int:
        """Print why nothing would be deleted, and return the exit status."""
        kept = {reason for plan in plans for reason in plan.kept}
        left_out = {reason for plan in plans if plan.ownership for reason in plan.ownership.left_out}
        if kept:
            session.error(
                f"nothing was deleted; all of it is kept: {', '.join(sorted(kept))}; {_where_to_look(kept, left_out)}"
            )
            return RefusedError.exit_status
        if any(plan.failed for plan in plans):
            session.error(
                "nothing was deleted: this user may not move it; run retentiond as the user of dendrite"
            )
            return FAILED
        what = f"--{self.request.kind} {printable(self.request.name)}"
        if self.request.kind == "media":
            session.error(f"no such media item: {what}; check the server and the ID")
            return FAILED
        session.note(f"nothing to delete: {what} matches no stored media")
        return 0

    def _question(self, plans: list[PassReport]) -> str:
        items = sum(plan.removed_items for plan in plans)
        size = sum(plan.removed_bytes for plan in plans)
        words = f"Delete {count_in_words(items, 'item')}, {size_in_words(size)}"
        for plan in plans:
            whose = plan.ownership
            if whose is not None and whose.removed:
                words += f", uploaded by {uploaders_in_words(whose.removed, _ASKED)}"
                words += f", mentioned in {rooms_in_words(whose, _ASKED)}" if whose.rooms else ""
        return words + "?"


def _where_to_look(kept: set[str], left_out: set[str]) -> str:
    ways = []
    if "hold" in kept:
        ways.append("`retentiond hold list` shows the holds with their reasons")
    if "restored" in kept:
        ways.append("items that somebody has restored are kept")
    if left_out:
        ways.append(
            "`retentiond delete --media mxc://…`, or `--user` of the uploader, deletes what was left out"
        )
    if kept - left_out - {"hold", "restored", "invalid_hash", "unsafe_path"}:
        ways.append("`retentiond plan --explain` shows what refers to an item")
    return "; ".join(ways) or "`retentiond plan --list` explains each"


@dataclass(frozen=True, slots=True)
class DeleteRoom:
    """Plan both, ask once, delete the media, and purge the room; a failure of the first leaves the room alone."""

    scope: Scope
    request: Request
    yes: bool = False
    dry_run: bool = False
    as_json: bool = False
    patience: float = PATIENCE
    reports: list[PassReport] = field(default_factory=list)

    def __call__(self, session: Session) -> int:
        """Work, and print the plans, or the passes once they ran, as JSON."""
        targets = session.targets(self.scope)
        rooms = {name: config for name, config in targets.items() if registry.has(config, PurgesRooms)}
        media = {name: config for name, config in targets.items() if registry.has(config, TakesRequests)}
        if not rooms:
            raise UsageError(
                "--and-purge needs a target of kind dendrite_rooms; add one to the configuration"
            )
        if not (self.yes or self.dry_run):
            refuse_unasked(session, _ANSWER)
        try:
            return self._work(session, media, rooms)
        finally:
            if self.as_json:
                session.document({"passes": [report.as_json() for report in self.reports]})

    def _work(
        self, session: Session, media: Mapping[str, TargetConfig], rooms: Mapping[str, TargetConfig]
    ) -> int:
        status = session.run(self._plan(session, media, rooms))
        if status or self.dry_run:
            return status
        plans = list(self.reports)
        if held := [plan.target for plan in plans if plan.kept["hold"]]:
            session.error(
                f"nothing was changed: {', '.join(held)} has a hold on it; `retentiond hold list` shows the holds"
            )
            return RefusedError.exit_status
        wanted = {plan.target for plan in plans if plan.removed}
        if not wanted & set(rooms):
            session.error("nothing was changed: the room cannot be purged; the plan says why")
            return RefusedError.exit_status
        if not self.yes and not agreed(session, self._question(plans, rooms)):
            session.note("nothing was deleted")
            return 0
        self.reports.clear()
        status = self._carry_out(session, {name: one for name, one in media.items() if name in wanted})
        if status:
            session.error(
                "the room was not purged, since its media were not all deleted; run it again to go on"
            )
            return status
        return self._carry_out(session, {name: one for name, one in rooms.items() if name in wanted})

    async def _plan(
        self, session: Session, media: Mapping[str, TargetConfig], rooms: Mapping[str, TargetConfig]
    ) -> int:
        async def on_target(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                if isinstance(target, PurgesRooms):
                    report = await target.plan_room(self.request.name)
                else:
                    assert isinstance(target, TakesRequests)  # noqa: S101 - `__call__` has chosen them
                    report = await target.plan(None, progress, self.request)
            self.reports.append(report)
            if not (session.options.quiet and self.yes):
                # With --json standard output holds the document only.
                show_pass(session.err if self.as_json else session.out, report, ())
            return report.exit_status

        return await session.for_each({**media, **rooms}, on_target)

    def _carry_out(self, session: Session, targets: Mapping[str, TargetConfig]) -> int:
        stop = Stop()

        async def on_target(target: Target, config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                options = PassOptions(
                    "delete",
                    request=self.request,
                    patience=self.patience,
                    keep_records=session.keep_records,
                    progress=progress,
                    stop=stop,
                )
                if isinstance(target, PurgesRooms):
                    report = await target.purge_room(self.request.name, options)
                else:
                    report = await target.run_pass(options)
            self.reports.append(report)
            await print_outcome(session, target, config, report, self.scope, shown=not self.as_json)
            return report.exit_status

        return session.run(session.for_each(targets, on_target, stop), stop)

    def _question(self, plans: list[PassReport], rooms: Mapping[str, TargetConfig]) -> str:
        items = sum(plan.removed_items for plan in plans if plan.target not in rooms)
        return f"Delete {count_in_words(items, 'media item')}, and purge the room {printable(self.request.name)} for good?"
