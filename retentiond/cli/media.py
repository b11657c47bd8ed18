"""Which of the targets hold media, for commands that are about nothing else."""

from retentiond.cli.session import Scope, Session
from retentiond.config.media import MediaTarget
from retentiond.model.errors import UsageError
from retentiond.model.text import printable


def media_targets(session: Session, scope: Scope, otherwise: str) -> dict[str, MediaTarget]:
    """Return the targets of media in the scope; UsageError with `otherwise` for others that were named, or none."""
    targets = session.targets(scope)
    media = {name: config for name, config in targets.items() if isinstance(config, MediaTarget)}
    # What other hosts work on is in neither.
    others = [name for name in targets if name in scope.names and name not in media]
    if others or (targets and not media):
        raise UsageError(
            f"{printable(', '.join(others)) or 'the configuration'}: no target of media; {otherwise}"
        )
    return media
