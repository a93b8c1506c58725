"""The advice at the end of an error, in the words of the tool that reports it.

Errors of the core name options of the command. A tool has arguments of other names, and its own ways to look at a lock
and to unlock it.
"""

from __future__ import annotations

import re

from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# What an option is called as an argument, where that is another word. Else the same with `_` for `-`.
ARGUMENTS = {"id": "owner", "lock-name": "name", "endpoint": "endpoints"}


class Tool(Value):
    """How one tool words its advice: `{}` stands for the name of the lock, or for an argument and its value."""

    show: str
    unlock: str
    forced: str
    argument: str  # with a value

    def advise(self, message: str) -> str:
        """Return the message without a word of the command line."""
        message = message.replace("--unlock --force", self.forced)
        # A name may have blanks in it: it ends with the sentence, or where the next option begins.
        name = r"--lock-name=(.+?)(?=[,;]| --|\.? [A-Z(]|$)"
        message = re.sub(rf"distlock --show {name}", lambda found: self.show.format(found[1]), message)
        message = re.sub(rf"distlock --unlock {name}", lambda found: self.unlock.format(found[1]), message)
        message = re.sub(r"(?<![\w-])--([a-z][a-z-]*)=([^\s,;)]+)", self._argument, message)
        return re.sub(r"(?<![\w-])--([a-z][a-z-]*)", lambda found: _word(found[1]), message)

    def _argument(self, found: re.Match[str]) -> str:
        return self.argument.format(_word(found[1]), found[2])


def _word(option: str) -> str:
    return ARGUMENTS.get(option, option.replace("-", "_"))


SALT: Final = Tool("distlock.show {}", "distlock.unlock {}", "force: True, after a look", "{}: {}")
PUPPET: Final = Tool(
    "puppet resource distlock {}",
    "puppet resource distlock {} ensure=unlocked",
    "force => true, after a look",
    "{} => {}",
)
ANSIBLE: Final = Tool(
    "distlock.distlock.distlock_info with name: {}",
    "distlock.distlock.distlock with state: unlocked and name: {}",
    "force: true, after a look",
    "{}: {}",
)
