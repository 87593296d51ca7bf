"""The report page as text: what it says, what it leaves out, and that no row can speak in its place."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reasons import Reason, exit_code
from finetune_trainer.cli import main
from finetune_trainer.page.reading import read_inputs
from finetune_trainer.page.render import render
from finetune_trainer.page.sections import SECTIONS
from finetune_trainer.stage.failure import StageError
from page_folder import EXECUTES, HOSTILE, write_folder

IN_ORDER = [make.__name__ for make in SECTIONS]


class Elements(HTMLParser):
    """Every start tag of a page, its ids, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if attributes.get("id")]

    @property
    def sections(self) -> list[str]:
        return [str(attributes.get("id")) for tag, attributes in self.tags if tag == "section"]


def page_of(folder: Path) -> str:
    return render(read_inputs(folder))


def edit(file: Path, change: Any) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_a_whole_run_gives_every_section_in_order_and_each_id_once(tmp_path: Path) -> None:
    found = Elements(page_of(write_folder(tmp_path)))
    names = {"answer_kinds": "answers"}
    assert found.sections == ["verdict", *(names.get(name, name) for name in IN_ORDER)]
    assert len(found.ids) == len(set(found.ids))
    figures = [one for one in found.ids if one.startswith("figure-")]
    assert figures == [
        "figure-scores", "figure-letters0", "figure-calibration", "figure-loss", "figure-rate", "figure-throughput",
        "figure-memory", "figure-retention", "figure-funnel",
    ]  # fmt: skip


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    assert page_of(folder) == page_of(folder)


def test_the_verdict_tells_what_was_gained_and_how_far_to_trust_it(tmp_path: Path) -> None:
    text = " ".join(Elements(page_of(write_folder(tmp_path))).text.split())
    assert "Accuracy rose by 50.0 points, from 25.0% to 75.0%, on 48 held-out rows." in text
    assert "Chance alone would rarely do that (McNemar exact, p < 0.001)." in text
    assert "Only the tuned model had 21 rows right, only the base model 4." in text
    assert "2 of 48 held-out rows ask what a training row asks" in text
    assert "31 of 32 checked rows of base" in text
    assert "guessing is right in 25.0% of the rows" in text
    assert "Gates: 1 passed" in text
    assert "Few examples plain." in text


def test_what_a_folder_lacks_leaves_its_section_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = write_folder(run)
    for name in ("result.json", "metrics.jsonl", "dataset.json"):
        (run / name).unlink()
    assert not {"training", "preparation"} & set(Elements(page_of(folder)).sections)
    for name in ("result.json", "spec.json"):
        (folder / name).unlink()
    old = {"summary": "0.5", "examples": 4, "metrics": [{"name": "Accuracy", "tuned": {"value": "0.5"}}]}
    (folder / "report.json").write_text(json.dumps({"evaluation": old}))
    page = Elements(page_of(folder))
    assert page.sections == ["verdict", "scores"]
    assert "The base model was not scored" in page.text
    assert "among the training rows is not known" in page.text


def test_a_part_in_a_form_that_nobody_knows_leaves_only_its_own_section_out(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    edit(folder / "report.json", lambda document: document.update(chosen=[1], samples={"a": 1}, agreement=7))
    sections = Elements(page_of(folder)).sections
    assert "scores" in sections
    assert not {"letters", "samples"} & set(sections)


@pytest.mark.parametrize("content", ["", "[]", '{"evaluation": 3}', "[" * 100_000])
def test_a_report_that_cant_be_read_is_named(tmp_path: Path, content: str) -> None:
    folder = write_folder(tmp_path)
    (folder / "report.json").write_text(content)
    with pytest.raises(StageError, match=r"report\.json") as caught:
        read_inputs(folder)
    assert caught.value.reason == Reason.EVALUATION_FAILED


def test_hostile_text_adds_no_element_no_attribute_and_nothing_invisible(tmp_path: Path) -> None:
    plain = Elements(page_of(write_folder(tmp_path / "plain", "plain plain")))
    page = page_of(write_folder(tmp_path / "hostile", HOSTILE))
    found = Elements(page)
    page.encode()  # no lone surrogate is left
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in plain.tags}
    names = {key for _, attributes in found.tags for key in attributes}
    assert names == {key for _, attributes in plain.tags for key in attributes}
    assert not any(name.startswith("on") or name == "style" for name in names)
    assert not {"script", "img", "link", "iframe", "a"} & {tag for tag, _ in found.tags}
    assert EXECUTES in found.text
    assert "{{ 7 * 7 }}" in found.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufeff]", page)
    assert "⟨U+202E⟩gnp.exe" in found.text
    assert "\ufffd" in found.text


def test_megabytes_are_cut_and_the_page_says_by_how_much(tmp_path: Path) -> None:
    page = page_of(write_folder(tmp_path, "word " * 600_000))
    assert len(page) < 400_000
    assert "2,998,500 characters more are not shown here." in Elements(page).text


def test_the_policy_allows_the_pages_own_style_and_nothing_else(tmp_path: Path) -> None:
    page = page_of(write_folder(tmp_path))
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(
        str(attributes["content"])
        for tag, attributes in Elements(page).tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)


def test_the_command_writes_the_page_of_the_newest_evaluation_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    folder = write_folder(run)
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    assert main(["report", str(folder / "report.json"), "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_bytes() == (folder / "report.html").read_bytes()


def test_the_command_names_a_place_without_a_report_and_an_output_that_cant_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "run")
    assert main(["report", str(tmp_path / "nowhere")]) == exit_code(Reason.INVALID_SPEC)
    assert "nowhere is not there" in capsys.readouterr().out
    main(["report", str(tmp_path)])
    assert "holds no finished evaluation" in capsys.readouterr().out
    assert main(["report", str(folder), "--output", str(tmp_path / "no" / "page.html")]) != 0
    assert "name another file with --output" in capsys.readouterr().out
