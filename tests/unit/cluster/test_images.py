"""Tags follow content and nothing else; the Dockerfiles keep the image's promises."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from embedded_cluster.image_content import OPERATOR, PAUSE, REPOSITORY, TRAINER, Image
from embedded_cluster.image_prune import old_digests
from embedded_cluster.images import write_references
from embedded_cluster.state import State

DOCKERFILE = """
FROM base
COPY requirements/app.txt /opt/requirements/
COPY app /opt/app
COPY --from=build /tool /tool
"""


@pytest.fixture
def image(tmp_path: Path) -> Image:
    for name, text in {
        "Dockerfile": DOCKERFILE,
        "requirements/app.txt": "app==1",
        "app/main.py": "print()",
        "app/data/a.csv": "a,b",
        "README.md": "not copied",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Image(name="app", dockerfile=Path("Dockerfile"), root=tmp_path)


def edit(image: Image, name: str, text: str) -> None:
    path = image.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", ["Dockerfile", "requirements/app.txt", "app/main.py", "app/data/a.csv", "app/new.py"])
def test_the_tag_changes_with_each_file_that_is_copied_and_with_the_dockerfile(image: Image, name: str) -> None:
    before = image.tag("base")
    edit(image, name, DOCKERFILE + "# edited\n")
    assert image.tag("base") != before


def test_the_tag_changes_with_a_files_name(image: Image) -> None:
    before = image.tag("base")
    (image.root / "app/main.py").rename(image.root / "app/other.py")
    assert image.tag("base") != before


def test_the_tag_changes_with_the_image_below(image: Image) -> None:
    assert image.tag("base:1") != image.tag("base:2")


def test_the_tag_ignores_files_that_are_not_copied_and_times_and_bytecode(image: Image) -> None:
    before = image.tag("base")
    edit(image, "README.md", "edited")
    edit(image, "app/__pycache__/main.cpython-311.pyc", "bytecode")
    os.utime(image.root / "app/main.py", (1, 1))
    assert image.tag("base") == before


def test_the_tag_is_the_same_in_another_checkout(image: Image, tmp_path: Path) -> None:
    other = shutil.copytree(image.root, tmp_path / "checkout")
    assert Image(name="app", dockerfile=Path("Dockerfile"), root=other).tag("base") == image.tag("base")


def test_bytes_moved_from_one_file_to_the_next_change_the_tag(image: Image) -> None:
    edit(image, "app/a.py", "12")
    edit(image, "app/b.py", "3")
    before = image.tag("base")
    edit(image, "app/a.py", "1")
    edit(image, "app/b.py", "23")
    assert image.tag("base") != before


def test_an_image_with_a_folder_of_its_own_changes_with_every_file_in_it(image: Image) -> None:
    folder_image = Image(name="app", dockerfile=Path("app/Dockerfile"), folder=Path("app"), root=image.root)
    before = folder_image.tag("")
    edit(image, "app/rootfs.sh", "true")
    assert folder_image.tag("") != before


def test_a_copy_of_what_does_not_exist_is_named(image: Image) -> None:
    edit(image, "Dockerfile", "FROM base\nCOPY missing /missing\n")
    with pytest.raises(FileNotFoundError, match="missing"):
        image.tag("base")


def test_the_trainer_image_receives_the_contract_and_the_trainer_only() -> None:
    assert code(TRAINER) == ["operator/finetune_api", "trainer_image/finetune_trainer"]


def test_the_operator_image_receives_the_contract_and_the_operator_only() -> None:
    assert code(OPERATOR) == ["operator/finetune_api", "operator/finetune_operator"]


def code(image: Image) -> list[str]:
    return [str(path) for path in image.copied() if path.parts[0] != "requirements"]


def test_the_dockerignore_lets_through_what_is_copied_and_no_more() -> None:
    copied = {str(path) for image in (OPERATOR, TRAINER) for path in image.copied()}
    requirements = {path for path in copied if path.startswith("requirements/")}
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == (copied - requirements) | {"requirements/*.txt"}


@pytest.mark.parametrize("image", [OPERATOR, TRAINER], ids=lambda image: image.name)
def test_dependencies_are_installed_before_any_code_is_copied(image: Image) -> None:
    text = (REPOSITORY / image.dockerfile).read_text()
    first_code = min(text.index(f"COPY {path} ") for path in code(image))
    assert text.index("pip install --python /opt/venv --require-hashes") < first_code


@pytest.mark.parametrize("image", [OPERATOR, TRAINER, PAUSE], ids=lambda image: image.name)
def test_an_image_runs_without_a_shell_as_a_numeric_user_that_is_not_root(image: Image) -> None:
    text = (REPOSITORY / image.dockerfile).read_text()
    entrypoint = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    assert [isinstance(json.loads(form), list) for form in entrypoint] == [True]
    assert [int(user) > 0 for user in re.findall(r"^USER (\S+)$", text, re.MULTILINE)] == [True]


@pytest.mark.parametrize("image", [PAUSE, OPERATOR, TRAINER], ids=lambda image: image.name)
def test_a_user_builds_from_a_public_image_with_its_registry_named(image: Image) -> None:
    default = re.findall(r"^ARG BASE_IMAGE=(\S+)$", (REPOSITORY / image.dockerfile).read_text(), re.MULTILINE)
    assert [value.split("/")[0] for value in default] == ["docker.io"]


def test_references_of_single_images_are_added_to_those_that_are_known(tmp_path: Path) -> None:
    state = State(tmp_path)
    write_references(state, {"a": "registry/a@sha256:1", "b": "registry/b@sha256:1"})
    path = write_references(state, {"b": "registry/b@sha256:2"})
    assert json.loads(path.read_text()) == {"a": "registry/a@sha256:1", "b": "registry/b@sha256:2"}


def test_the_node_keeps_the_present_generation_other_images_and_those_without_a_successor() -> None:
    digests = {
        "127.0.0.1:5000/finetune-trainer@sha256:old": "sha256:old",
        "127.0.0.1:5000/finetune-trainer:tag": "sha256:new",
        "127.0.0.1:5000/finetune-operator@sha256:running": "sha256:running",
        "docker.io/library/busybox:1": "sha256:busybox",
    }
    present = {"finetune-trainer": "sha256:new", "finetune-operator": None}
    assert old_digests(digests, present) == {"sha256:old"}
