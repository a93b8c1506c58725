"""The wheel alone, in a clean environment of the oldest and of the newest Python that is here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from distlock_core.testing import Cluster
from tests.support.paths import ROOT

TOOLS = ROOT / "tools"
BOUND = 100.0


def interpreters() -> list[str]:
    """The oldest and the newest that can run it, of those that are here."""
    words = [sys.executable, str(TOOLS / "interpreters.py"), "--ends"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=BOUND).stdout
    return [line.split(" ", 1)[1] for line in listed.splitlines()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = [sys.executable, str(TOOLS / "build_wheel.py"), "--into", str(tmp_path_factory.mktemp("wheel"))]
    return Path(subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True, timeout=BOUND).stdout.strip())


def test_wheel_and_source_distribution_have_completion_and_manual_pages(wheel: Path, tmp_path: Path) -> None:
    """A wheel that is built from the source distribution, without a network, is the same as one from a checkout."""
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
    for name in ("distlock_core", "salt", "tools"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    build = "import setuptools.build_meta as b, sys; b.build_{0}(sys.argv[1])"
    made = []
    for kind, folder in (("sdist", source), ("wheel", unpacked)):
        words = [sys.executable, "-c", build.format(kind), str(tmp_path)]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=BOUND, check=False)
        assert done.returncode == 0, done.stderr
        if kind == "sdist":
            (archive,) = tmp_path.glob("*.tar.gz")
            shutil.unpack_archive(archive, tmp_path, filter="data" if hasattr(tarfile, "data_filter") else None)
            (tmp_path / archive.name.removesuffix(".tar.gz")).rename(unpacked)
        else:
            made = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert sorted(made) == sorted(zipfile.ZipFile(wheel).namelist())
    shared = {name.partition("/data/")[2] for name in made if "/data/" in name}
    commands = ("distlock", "distlock-etcd", "distlock-puppet", "etcdlocker")
    assert shared == {
        place.format(command)
        for command in commands
        for place in (
            "share/bash-completion/completions/{}",
            "share/fish/vendor_completions.d/{}.fish",
            "share/man/man1/{}.1",
            "share/zsh/site-functions/_{}",
        )
    }


@pytest.fixture(params=["oldest", "newest"], scope="module")
def clean(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment with the wheel and PyYAML (without its part in C, which is for one Python), and nothing else."""
    home = tmp_path_factory.mktemp("clean") / "env"
    python = interpreters()[0 if request.param == "oldest" else -1]
    subprocess.run([python, "-m", "venv", str(home)], check=True, timeout=BOUND)
    installed = home / "bin/python"
    pip = [str(installed), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=BOUND)
    (site,) = home.glob("lib/python3.*/site-packages")
    pure = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(Path(yaml.__file__).parent, site / "yaml", ignore=pure)
    yield installed
    shutil.rmtree(home)


def test_every_module_can_be_imported_without_a_warning(clean: Path, tmp_path: Path) -> None:
    words = [str(clean), "-I", "-W", "error", str(TOOLS / "import_all.py")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=BOUND, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_its_commands_work(
    clean: Path, etcd: Cluster, realm_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text(f"endpoints:\n  - {etcd.endpoints[0]}\nprefix: {realm_prefix}\n")
    env = {
        "PATH": os.environ["PATH"],
        "DISTLOCK_CONFIG": str(config),
        "PYTHONWARNINGS": "error::DeprecationWarning,error::SyntaxWarning",
    }

    def run(command: str, *arguments: str) -> str:
        done = subprocess.run(
            [clean.parent / command, *arguments], env=env, capture_output=True, text=True, timeout=BOUND, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), (command, arguments)
        return done.stdout

    assert run("distlock", "--lock-name=web", "--ttl=10", "--", "echo", "inside") == "inside\n"
    assert run("distlock", "--lock-name=web", "--lock", "--id=me") == ""
    assert "me" in run("distlock", "--list")
    assert "held by" in run("distlock", "--show", "--lock-name=web")
    run("distlock", "--lock-name=web", "--unlock", "--id=me")
    for command in ("distlock", "etcdlocker", "distlock-etcd", "distlock-puppet"):
        assert run(command, "--help")
        assert (clean.parent.parent / f"share/man/man1/{command}.1").read_text().startswith(".TH")
