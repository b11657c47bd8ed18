"""The media targets, for commands that work on media only."""

from retentiond.cli.session import Scope, Session
from retentiond.config.media import MediaTarget
from retentiond.model.errors import UsageError
from retentiond.model.text import printable


def media_targets(session: Session, scope: Scope, otherwise: str) -> dict[str, MediaTarget]:
    """Return the media targets in the scope; raise UsageError with `otherwise` for a named target of another kind, or none."""
    targets = session.targets(scope)
    media = {name: config for name, config in targets.items() if isinstance(config, MediaTarget)}
    # What other hosts work on is in neither.
    others = [name for name in targets if name in scope.names and name not in media]
    if others or (targets and not media):
        raise UsageError(
            f"{printable(', '.join(others)) or 'the configuration'}: not a media target; {otherwise}"
        )
    return media
