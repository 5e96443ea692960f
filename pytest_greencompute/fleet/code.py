"""The code that a fleet measures: a commit with its history as a git bundle, and what git ignores and ``base_link`` names.

Law: nothing that the tests may need stays behind in silence. Changes that are in no commit, weights that git does not keep, submodules and
Git LFS files are refused by name.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from pytest_greencompute.commits.git import MERGE_BASE, Commit, GitError, Repository
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.fleet.node import BUNDLE, LENT, PLUGIN, SHALLOW, Sent
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.names import listed

WEIGHTS = {
    *(".bin", ".ckpt", ".ggml", ".gguf", ".h5", ".joblib", ".keras", ".npy", ".npz", ".onnx", ".pb", ".pkl", ".pt", ".pth", ".safetensors"),
    *(".engine", ".tflite", ".mlmodel", ".msgpack", ".pickle"),
}
OURS = ".greencompute"  # what this package keeps beside a project
INSTALLED = {"site-packages", "node_modules", "__pycache__"}
NAMED = 5
CHUNK_BYTES = 32 * 1024 * 1024


class Code:
    """The code of the project in ``root``. Raises SettingsError for what would not be the same on a node; ``reports`` are written when all
    is measured, so what lies there is of the fleet before.
    """

    def __init__(self, root: Path, settings: Settings, environ: Mapping[str, str], reports: Iterable[Path] = ()) -> None:
        self._repository = Repository(root, environ)
        self.root, self._settings = root, settings
        self._top = Path(os.path.realpath(self._repository.top))
        self.commit = self._repository.head()
        if not self.commit:
            raise GitError(f"{root} has no commit yet, and a fleet measures one.", remedy="Commit first.")
        self._reports = {Path(os.path.realpath(each)) for each in reports}
        self.lent = tuple(self._lent())
        self._refuse_what_stays_behind()

    def sent(self, session: str) -> Sent:
        """What the nodes are told of it. Raises GitError for a commit to compare with that there is not."""
        names = dict(each for ref in self._settings.base_refs for each in self._name(self._repository.resolve(ref)))
        project = os.path.relpath(os.path.realpath(self.root), self._top)
        return Sent(session, self.commit, names, project, str(self.root), metadata.version(PLUGIN))

    def _name(self, commit: Commit) -> Iterator[tuple[str, str]]:
        """How the node is to know what the settings call a commit. HEAD and shas it knows by itself."""
        name = commit.ref.removeprefix(MERGE_BASE)
        named = commit if name == commit.ref else self._repository.resolve(name)
        if name.partition("~")[0].partition("^")[0] == "HEAD" or named.sha.startswith(name):
            return
        try:
            self._repository.ask("check-ref-format", f"refs/tags/{name}")
        except GitError as error:
            raise SettingsError(
                f"--energy-base-ref {name} cannot be named on other hosts.", remedy="Name a branch, a tag or a sha."
            ) from error
        yield name, named.sha

    def archive(self, sent: Sent) -> Iterator[bytes]:
        """A tar file with all of it, piece by piece."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sent.tar"
            with tarfile.open(path, "w", dereference=True) as tar:
                bundle = Path(folder) / BUNDLE
                self._repository.ask("bundle", "create", "--quiet", str(bundle), "HEAD", *dict.fromkeys(sent.names.values()))
                tar.add(bundle, BUNDLE)
                bundle.unlink()
                shallow = Path(self._repository.ask("rev-parse", "--path-format=absolute", "--git-path", SHALLOW).rstrip("\n"))
                if shallow.is_file():
                    tar.add(shallow, SHALLOW)
                for each in self.lent:
                    _add(tar, self._top / each, f"{LENT}/{each}")
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

    def _lent(self) -> Iterator[str]:
        """What ``base_link`` names, from the repository's top."""
        home = Path(os.path.realpath(self._settings.folder or self.root))
        for link in self._settings.base_link:
            path = Path(os.path.normpath(home / link))
            if self._top not in path.parents:
                raise SettingsError(f"base_link {link!r} leads out of the repository.", remedy="Name a path inside it, such as 'models/'.")
            if not path.exists():
                raise SettingsError(f"base_link {link!r} does not exist.", remedy="Remove it, or put there what the tests need.")
            yield path.relative_to(self._top).as_posix()

    def _refuse_what_stays_behind(self) -> None:
        ask = self._repository.ask
        if changed := _split(ask("diff", "HEAD", "--name-only", "--no-renames", "-z", folder=self._top)):
            raise SettingsError(f"A fleet measures a commit, and {_listed(changed)} differ from it.", remedy="Commit or stash them.")
        if submodules := [path for _, path in self._repository.submodules(self._top)]:
            raise SettingsError(f"A fleet does not carry submodules, and there are {_listed(submodules)}.", remedy=_BY_HAND)
        others = _split(ask("ls-files", "--others", "--exclude-standard", "-z", folder=self.root))
        if untracked := self._left([each for each in others if OURS not in Path(each).parts and not self._is_report(each)]):
            remedy = "Commit them, have git ignore them, or name what the tests need in base_link."
            raise SettingsError(f"{_listed(untracked)} are in no commit, and hosts would not have them.", remedy=remedy)
        ignored = _split(ask("ls-files", "--others", "--ignored", "--exclude-standard", "-z", folder=self.root))
        if weights := self._left([each for each in ignored if _is_weight(each)]):
            remedy = f'Name them: base_link = ["{weights[0]}"]; or move them out of the project where the tests do without.'
            raise SettingsError(f"Git ignores {_listed(weights)}, and hosts would not have them.", remedy=remedy)
        lfs = _split(ask("ls-files", "-z", ":(top,attr:filter=lfs)", folder=self._top))
        if pointers := [each for each in lfs if not self._is_lent(each)]:
            raise SettingsError(f"A fleet does not carry Git LFS files, and there are {_listed(pointers)}.", remedy=_BY_HAND)

    def _left(self, paths: Sequence[str]) -> list[str]:
        """Those, as seen from the project, that are not lent."""
        here = Path(os.path.realpath(self.root)).relative_to(self._top).as_posix()
        return [each for each in paths if not self._is_lent(each if here == "." else f"{here}/{each}")]

    def _is_report(self, path: str) -> bool:
        return Path(os.path.realpath(self.root / path)) in self._reports

    def _is_lent(self, path: str) -> bool:
        return any(path == each or path.startswith(f"{each}/") for each in self.lent)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    try:
        tar.add(path, name)
    except OSError as error:  # a link that leads nowhere, or to the folder that it lies in; a file that nobody may read
        raise SettingsError(f"{path} cannot be carried to hosts: {error}.", remedy="Mend it, or name less in base_link.") from error


_BY_HAND = "Run pytest on each host by yourself, and gather the reports with `greencompute gather`."


def _is_weight(path: str) -> bool:
    """Whether a file that git ignores may be a model's: no cache, and nothing that is installed."""
    parts = Path(path).parts
    return Path(path).suffix.lower() in WEIGHTS and not any(each in INSTALLED or each.startswith(".") for each in parts)


def _split(said: str) -> list[str]:
    return [each for each in said.split("\0") if each]


_listed = partial(listed, most=NAMED)
