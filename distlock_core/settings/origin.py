"""The origin of a setting: the option, the variable, or the file and line that has set it."""

from __future__ import annotations

from distlock_core.errors import ConfigError
from distlock_core.settings.options import IN_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.settings.options import Settings


def origin(settings: Settings, key: str) -> str:
    """`--ttl`, `DISTLOCK_TTL`, `config file /etc/x.yaml line 3`; the key itself if nothing else is known."""
    found = settings.origins.get(key, key)
    if not found.startswith(IN_FILE):
        return found
    from distlock_core.settings.config_file import line_of

    line = line_of(found[len(IN_FILE) :], key)
    return found if line is None else f"{found} line {line}"


def with_origins(error: ConfigError, settings: Settings) -> ConfigError:
    """The error, which also says where each of the settings was set that it is about."""
    words = []
    for key in error.about:
        if key in settings.origins:
            found = origin(settings, key)
            words.append(key if found == key else f"{key} from {found}")
    where = f" ({', '.join(words)})" if words else ""
    return ConfigError(error.message + where, hints=error.hints, about=error.about)
