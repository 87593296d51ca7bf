"""How the embedded cluster's binaries are named and stamped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedded_cluster import build
from embedded_cluster.errors import ClusterError
from embedded_cluster.state import State


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> build.Module:
    monkeypatch.setattr(build, "MODULES", tmp_path)
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "go.mod").write_text("module hello\n\ngo 1.24\n")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text('package main\n\nvar version = "unset"\n\nfunc main() { print(version) }\n')
    return build.Module("hello", ("alias",), ("-X", "main.version=v1"))


def test_the_digest_changes_with_each_file_of_the_module_and_with_the_linker_flags(module: build.Module) -> None:
    digests = [module.digest(), build.Module("hello", (), ("-X", "main.version=v2")).digest()]
    for name in ("go.mod", "go.sum", "main.go"):
        with (module.folder / name).open("a") as file:
            file.write("// more\n")
        digests.append(module.digest())
    assert len(set(digests)) == len(digests)


def test_the_digest_ignores_what_is_not_built(module: build.Module) -> None:
    before = module.digest()
    (module.folder / "README.md").write_text("hello")
    assert module.digest() == before


def test_the_version_that_go_mod_requires_is_stamped_into_the_components() -> None:
    flags = build.version_flags("require (\n\tk8s.io/api v0.1.0\n\tk8s.io/kubernetes v1.34.4\n)\n")
    for stamp in ("gitVersion=v1.34.4", "gitMajor=1", "gitMinor=34"):
        assert f"k8s.io/component-base/version.{stamp}" in flags


def test_a_go_mod_without_kubernetes_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"requires no k8s\.io/kubernetes"):
        build.version_flags("module empty\n")


def test_a_module_is_built_once_with_a_link_for_each_name(
    module: build.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "modules", lambda: (module, module))
    lines: list[str] = []
    binaries = build.build(State(tmp_path / "state"), lines.append)
    assert subprocess.run([binaries["alias"]], capture_output=True, text=True, check=True).stderr == "v1"
    assert [line.split(" ")[1] for line in lines] == ["building", "built", "found"]


def test_a_module_that_does_not_compile_is_reported_with_the_compilers_words(
    module: build.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (module.folder / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    monkeypatch.setattr(build, "modules", lambda: (module, module))
    with pytest.raises(ClusterError, match=r"(?s)go build of hello failed; .*undefined: undefined"):
        build.build(State(tmp_path / "state"), lambda line: None)


def test_go_missing_is_said_with_what_to_install(
    module: build.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build, "modules", lambda: (module, module))
    with pytest.raises(ClusterError, match=r"go is not on the PATH: install Go 1\.25"):
        build.build(State(tmp_path / "state"), lambda line: None)


def test_build_runs_without_any_installed_package() -> None:
    """It runs before the virtual environment exists."""
    command = [sys.executable, "-S", "-m", "embedded_cluster", "--help"]
    environment = {"PYTHONPATH": str(build.MODULES), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "build the binaries" in done.stdout
