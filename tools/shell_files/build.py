"""A step of the build: it writes completion and manual pages, which the wheel installs below share/.

    .venv/bin/python -m tools.shell_files.build build/share

pyproject.toml names `Build`, so that every build runs it; setuptools installs none of it with an editable install.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools.command.build import build

ROOT = Path(__file__).resolve().parents[2]


class Build(build):  # type: ignore[misc] # setuptools has no types
    """setuptools' `build`, with the files for shells among what is built."""

    def run(self) -> None:
        super().run()
        into = Path(self.build_base, "share")
        files: dict[str, list[str]] = {}
        for place in write(into):
            files.setdefault(f"share/{place.parent.relative_to(into)}", []).append(str(place))
        self.distribution.data_files = [*(self.distribution.data_files or ()), *files.items()]


def write(into: Path) -> list[Path]:
    """Write the files into a folder that stands for share/, and return their paths."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # a build by pip imports this module by its path
    from tools.shell_files import completion, manual
    from tools.shell_files.parsers import ALL

    made: dict[str, str] = {}
    for command in ALL:
        made[manual.PLACE.format(name=command.name)] = manual.page(command)
        for shell, place in completion.PLACES.items():
            made[place.format(name=command.name)] = completion.script(command, shell)
    for place, text in made.items():
        (into / place).parent.mkdir(parents=True, exist_ok=True)
        (into / place).write_text(text, encoding="utf-8")
    return [into / place for place in made]


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)
