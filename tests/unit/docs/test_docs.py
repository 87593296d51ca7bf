"""What the documentation says agrees with the code: generated parts, tables, examples, links and commands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest
import yaml

from finetune_api.defaults import resolve
from finetune_api.manifest import read_manifest
from finetune_cli import commands, main
from finetune_operator.gateway.settings import Settings as GatewaySettings
from finetune_operator.settings import Settings as OperatorSettings
from finetune_operator.workload.profile import LoadedProfile, Profile, parse_profile

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


def table(page: str, section: str = "") -> dict[str, list[str]]:
    """The rows of the first table after a heading, by what stands in code in their first cell."""
    text = (ROOT / "docs" / page).read_text().partition(section)[2]
    rows: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            first, *rest = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows[first.strip("`")] = rest
        elif rows and not line.startswith("|"):
            break
    return rows


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in re.finditer(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL):
            yield page.name, found.group(1)


def test_what_follows_from_the_code_is_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_named_file_is_there(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:docs|crds|manifests|tests|operator|trainer_image)/[\w./-]+)`", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_command_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^|\n)make ([a-z-]+)", page.read_text()))
    assert named <= targets


def test_every_example_of_a_job_is_one_that_would_run() -> None:
    jobs = [text for _, text in blocks("yaml") if "kind: FineTuneJob" in text]
    assert jobs
    for text in jobs:
        assert read_manifest(text, "example").spec.model.source


@pytest.mark.parametrize("sample", sorted((ROOT / "manifests/samples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample_is_a_job_that_would_run(sample: Path) -> None:
    resolved = resolve(read_manifest(sample.read_text(), sample.name).spec)
    assert resolved.training_sha256()
    assert resolved.evaluation_sha256()


def section(page: str, heading: str) -> str:
    return (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


PRACTICES = {
    "Compare methods": ["method"],
    "Stop in time": ["dataset.validation", "training.early_stopping"],
    "Forget little": ["dataset.replay", "training.elastic_weight_consolidation", "evaluation.retention"],
    "Survive a preemption": ["training.checkpoint.every_steps"],
    "Refresh every month": ["model.adapter", "dataset.replay"],
    "Score an adapter that is there already": ["model.adapter", "evaluation.dataset"],
}


def practice(heading: str) -> str:
    (text,) = re.findall(r"```yaml\n(.*?)```", section("practices.md", heading), re.DOTALL)
    return str(text)


@pytest.mark.parametrize(("heading", "fields"), PRACTICES.items(), ids=list(PRACTICES))
def test_every_practice_is_a_whole_job_with_what_its_heading_says(heading: str, fields: list[str]) -> None:
    spec = resolve(read_manifest(practice(heading), heading).spec)
    for field in fields:
        assert attrgetter(field)(spec), field


@pytest.mark.parametrize("method", ["QLoRA", "LoRA", "Full"])
def test_methods_are_compared_by_one_word(method: str) -> None:
    text = practice("Compare methods").replace("method: QLoRA", f"method: {method}")
    assert resolve(read_manifest(text, method).spec).method == method


def test_the_measured_figures_of_forgetting_have_a_row_for_each_method_and_the_command_that_measures_them() -> None:
    text = section("practices.md", "Forget little")
    rows = re.findall(r"^\| (Full|LoRA) \|((?: [\d., ]+ \|){3})$", text, re.MULTILINE)
    assert [name for name, _ in rows] == ["Full", "LoRA"]
    assert all(len(re.findall(r"[\d.]+", cells)) == 3 * 3 for _, cells in rows)  # three seeds each
    assert "pytest -s tests/trainer/long/test_forgetting_study.py" in text


def test_the_first_steps_change_one_thing_of_the_sample_that_make_try_runs() -> None:
    text = section("local-run.md", "From a fresh clone")
    sample, makefile = "manifests/samples/medqa-tiny.yaml", (ROOT / "Makefile").read_text()
    assert f"finetune run {sample} --mount models=try" in makefile
    assert f"finetune plan {sample} --mount models=try" in text
    (old, new), *others = re.findall(r"sed 's/(.+?)/(.+?)/'", text)
    assert not others
    given = (ROOT / sample).read_text()
    assert given.count(old) == 1
    before, after = (read_manifest(one, "sample").spec for one in (given, given.replace(old, new)))
    assert before.training.learning_rate != after.training.learning_rate
    assert before.model_copy(update={"training": after.training}) == after
    runs = before.output.destination.removeprefix("pvc://models/")
    for command in (f"finetune compare try/{runs} ", f"finetune verify try/{runs}/latest --mount models=try"):
        assert command in text


def test_the_smallest_example_shows_a_decimal_in_quotes() -> None:
    readme = (ROOT / "README.md").read_text()
    assert 'learningRate: "2e-4"' in readme


def test_every_key_of_a_profile_is_listed_and_the_example_is_one() -> None:
    fields = {field.alias or name for name, field in Profile.model_fields.items()}
    listed = table("profiles.md", "| key | default | meaning |")
    assert set(listed) == fields
    example = next(yaml.safe_load(text) for page, text in blocks("yaml") if page == "profiles.md")
    assert isinstance(parse_profile("a100-mig", "finetune-system", example["data"]), LoadedProfile)


class Recorded(dict[str, str]):
    """An environment that notes what is asked of it."""

    def __init__(self, given: dict[str, str]) -> None:
        super().__init__(given)
        self.asked: set[str] = set()

    def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


def test_every_setting_of_the_operator_is_listed_with_its_default() -> None:
    environment = Recorded({"OPERATOR_NAMESPACE": "finetune-system"})
    settings = OperatorSettings.from_environment(environment)
    listed = table("settings.md", "## Operator")
    assert set(listed) - {"variable"} == environment.asked
    assert listed["HEALTH_PORT"][0].strip("`") == str(settings.health_port)


def test_every_setting_of_the_gateway_is_listed_with_its_default() -> None:
    listed = table("settings.md", "## Gateway")
    fields = {str(field.alias): field for field in GatewaySettings.model_fields.values()}
    assert set(listed) - {"variable", "LOG_LEVEL"} == set(fields)
    for name, field in fields.items():
        told = listed[name][0].strip("`")
        assert told == ("required" if field.is_required() else str(field.default) or "none"), name


def test_the_plugins_exit_codes_are_those_listed() -> None:
    codes = set(table("plugin.md", "| exit code | meaning |"))
    assert {int(code) for code in codes} == {0, 2, commands.FAILED, commands.UNKNOWN, main.INTERRUPTED}


def test_every_version_that_the_changelog_names_is_there_once() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert len(headings) == len(set(headings))
