"""The line of an interactive shell on a terminal, as a person types it and completes it with Tab."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from tests.support.pseudo_terminal import Terminal

SHOW, ALL, CLEAR = "\x18p", "\x18a", "\x15"  # keys: print the line, insert all completions, empty the line

BASH = """\
bind 'set enable-bracketed-paste off'
bind 'set bell-style none'
bind 'set completion-query-items 0'
bind 'set page-completions off'
bind '"\\C-xa": insert-completions'
show() { printf '<<%s>>\\n' "$READLINE_LINE"; }
bind -x '"\\C-xp": show'
PS1='ready> '
"""
ZSH = """\
PS1='ready> '
unset zle_bracketed_paste
setopt no_beep no_auto_menu
autoload -Uz compinit
compinit -u -d "$HOME/.zcompdump"
zstyle ':completion:all:*' completer _all_matches _complete
zstyle ':completion:all:*' insert yes
zle -C all complete-word _generic
bindkey '^Xa' all
show() { print -r -- "<<$BUFFER>>" > $TTY }
zle -N show
bindkey '^Xp' show
bindkey '^U' kill-whole-line
"""


class ShellLine:
    """An interactive bash or zsh that has run `start` before."""

    def __init__(self, shell: str, env: Mapping[str, str], home: Path, start: str = "") -> None:
        (home / "rc").mkdir(exist_ok=True)
        rc = home / "rc" / (".zshrc" if shell == "zsh" else "bashrc")
        rc.write_text(start + (ZSH if shell == "zsh" else BASH))
        program = ["zsh", "-i"] if shell == "zsh" else ["bash", "--rcfile", str(rc), "-i"]
        env = {**env, "HOME": str(home), "ZDOTDIR": str(rc.parent), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
        self.terminal = Terminal(program, env, rows=200, columns=2000)
        self.terminal.until("ready> ")

    def tab(self, line: str) -> str:
        """The line after a Tab at its end."""
        return self._after(line + "\t")

    def offers(self, line: str) -> list[str]:
        """All completions of the last word of the line."""
        return shlex.split(self._after(line + ALL).removeprefix(line[: line.rfind(" ") + 1]))

    def _after(self, keys: str) -> str:
        self.terminal.type(keys + SHOW)
        shown = self.terminal.until(r"<<(.*?)>>\r?\n")
        self.terminal.type(CLEAR)
        return shown

    def close(self) -> None:
        self.terminal.close()
