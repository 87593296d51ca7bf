"""The preparation of rows as a whole, with a real tokenizer: what is counted, refused, mixed, kept and told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.data.example import Example, Message
from finetune_trainer.data.load import Rows
from finetune_trainer.data.pipeline import Reading
from finetune_trainer.data.prepare import load_held_out
from finetune_trainer.data.prepared import Prepared, check_same_tokens, prepare_rows
from finetune_trainer.data.row_report import report_lines
from finetune_trainer.data.tokenize import tokenise
from finetune_trainer.sources.locate import Sources, locate
from finetune_trainer.stage.failure import StageError
from trainer_inputs import refusal, run_config

CREATURES = ("heron", "otter", "badger", "lizard", "dormouse", "kestrel", "hedgehog", "salmon")
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def talk(number: int, **more: Any) -> dict[str, Any]:
    """A conversation of its own for each number below 1152."""
    creature, first, second = CREATURES[number % 8], NUMBERS[number // 8 % 12], NUMBERS[number // 96]
    return {
        "messages": [
            {"role": "user", "content": f"How many {creature}s are {first} and {second} {creature}s?"},
            {"role": "assistant", "content": f"{first} and {second} of them, {creature}s all."},
        ],
        **more,
    }


def silent(number: int) -> dict[str, Any]:
    """A conversation whose last response is not to be learned."""
    last = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes.", "train": False}]
    return {"messages": [*talk(number)["messages"], *last]}


@pytest.fixture
def chat(read_chat: Any) -> Any:
    return read_chat("ChatML")


@pytest.fixture
def reading(chat: Any) -> Reading:
    return Reading(chat, 512, "Responses")


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    write(tmp_path, [talk(number) for number in range(100)])
    return tmp_path


def write(claim: Path, rows: list[Any], name: str = "train") -> None:
    (claim / "rows").mkdir(exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (claim / "rows" / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))


def configured(
    claim: Path, evaluation: bool = False, training: dict[str, Any] | None = None, **dataset: Any
) -> RunConfig:
    spec: dict[str, Any] = {
        "model": {"source": "pvc://work/model"},
        "dataset": {"source": "pvc://work/rows", "format": "Chat", **dataset},
        "training": training or {},
        "output": {"destination": "pvc://work/out"},
        "runtime": {"gpusPerNode": 0},
    }
    if evaluation:
        spec["evaluation"] = {"dataset": {"source": "pvc://work/rows"}, "metrics": ["Perplexity"]}
    return run_config(spec, {"work": claim})


def prepare(config: RunConfig, reading: Reading) -> Prepared:
    sources, held_out = found(config)
    return prepare_rows(config, sources, held_out, reading)


def found(config: RunConfig) -> tuple[Sources, Rows | None]:
    sources = locate(config, None)
    return sources, load_held_out(config, sources)


def dropped(prepared: Prepared) -> dict[str, int]:
    return {one.name: one.rows for one in prepared.status.dropped}


def reasons(prepared: Prepared) -> list[str]:
    return [entry.reason for entry in prepared.advice]


def test_every_step_counts_what_it_leaves_out(claim: Path, reading: Reading) -> None:
    long = talk(1)
    long["messages"][0]["content"] = "Who? " * 400
    mute = silent(2)
    twin = json.loads(json.dumps(talk(3)).replace("heron", "HERON").replace("lizard", "LIZARD"))
    words = " ".join(NUMBERS * 5)
    near = [talk(0), talk(0)]
    for row, end in zip(near, ("", " indeed"), strict=True):
        row["messages"][0]["content"] = words + end
    bad: list[Any] = [{"messages": []}, '{"messages": [', [1]]
    write(claim, [*(talk(number) for number in range(100)), *bad, twin, *near, long, mute])
    last = replace(reading, loss_on="LastResponse")
    prepared = prepare(configured(claim, filters={"maxMalformed": "0.1"}), last)

    assert dropped(prepared) == {"Malformed": 3, "ExactDuplicate": 1, "NearDuplicate": 1, "TooLong": 1, "NoResponse": 1}
    assert (prepared.status.rows, prepared.status.examples, len(prepared.store)) == (108, 101, 101)
    assert prepared.status.summary.startswith("101 of 108 rows, ")
    (one,) = prepared.document["datasets"]
    assert [row.split(":")[0].split(" is ")[0][:20] for row in one["malformed"]] == [
        f"train.jsonl row {n}"[:20] for n in (101, 102, 103)
    ]
    assert one["repeats"] == [
        "train.jsonl row 104 repeats train.jsonl row 4",
        "train.jsonl row 106 repeats train.jsonl row 105",
    ]
    assert [row.split(": ")[1] for row in one["unfit"]] == [
        "longer than the model takes",
        "no response that the loss sees",
    ]


def test_rows_keep_the_order_of_the_file_and_are_the_tokenizers_own(claim: Path, reading: Reading) -> None:
    prepared = prepare(configured(claim), reading)
    turns = [tuple(Message(**message) for message in talk(number)["messages"]) for number in range(100)]
    alone = [tokenise([Example(messages=one)], reading.chat, 512, "Responses")[0].rows[0] for one in turns]
    assert list(prepared.store) == alone
    assert prepared.status.tokens == sum(len(row.input_ids) for row in alone)
    assert prepared.status.response_tokens == sum(label != -100 for row in alone for label in row.labels)


def test_more_malformed_rows_than_allowed_refuse_the_run_in_the_words_of_the_first(
    claim: Path, reading: Reading
) -> None:
    write(claim, [*(talk(number) for number in range(98)), {"message": []}, {"messages": 7}])
    text = refusal(lambda: prepare(configured(claim), reading), Reason.DATASET_INVALID)
    assert text.startswith("train.jsonl row 99: column 'messages': missing")
    assert text.endswith("2 of 100 rows of train.jsonl can't be used (2.0%), at most 1.0% may")
    prepared = prepare(configured(claim, filters={"maxMalformed": "0.02"}), reading)
    assert dropped(prepared) == {"Malformed": 2}
    assert "MalformedRows" in reasons(prepared)


def test_rows_of_one_id_are_malformed_but_the_first(claim: Path, reading: Reading) -> None:
    write(claim, [talk(0, key="a"), talk(1, key="b"), talk(2, key="a")])
    config = configured(claim, columns={"id": "key"}, filters={"maxMalformed": "0.5"})
    (one,) = prepare(config, reading).document["datasets"]
    assert one["malformed"] == [
        "train.jsonl row 3: column 'key': 'a' names train.jsonl row 1, too: give each row its own"
    ]


def test_a_column_that_no_row_has_is_refused_even_where_rows_may_lack_it(claim: Path, reading: Reading) -> None:
    config = configured(claim, columns={"system": "sytsem"})
    text = refusal(lambda: prepare(config, reading), Reason.DATASET_INVALID)
    assert text == "no row of train.jsonl has the column 'sytsem' that spec.dataset.columns.system names"
    write(claim, [*(talk(number) for number in range(20)), talk(20, sytsem="Be brief.")])
    assert prepare(config, reading).status.examples == 21


def test_held_out_rows_need_not_say_where_they_come_from(claim: Path, reading: Reading) -> None:
    write(claim, [talk(number, by="Human") for number in range(20)])
    write(claim, [talk(number) for number in range(500, 520)], "test")
    config = configured(claim, evaluation=True, columns={"provenance": "by"})
    assert [(one.name, one.rows) for one in prepare(config, reading).status.provenance] == [("Human", 20)]


def test_the_first_usable_rows_are_taken_and_no_other_is_read(claim: Path, reading: Reading) -> None:
    write(claim, [talk(0), {"messages": []}, talk(1), talk(2), "no JSON at all"])
    prepared = prepare(configured(claim, maxExamples=3, filters={"maxMalformed": "0.3"}), reading)
    assert (prepared.status.rows, prepared.status.examples, dropped(prepared)) == (4, 3, {"Malformed": 1})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "train.jsonl has no rows"),
        ([{"messages": []}] * 3, "train.jsonl row 1: column 'messages'"),
        (
            [
                talk(0)
                | {"messages": [{"role": "user", "content": "Who? " * 400}, {"role": "assistant", "content": "I."}]}
            ],
            "1 of 1 training rows of train.jsonl are longer than 512 tokens",
        ),
        ([silent(0)], "1 of 1 rows of train.jsonl have no response that the loss would see"),
    ],
    ids=["none", "malformed", "too long", "without a response"],
)
def test_a_run_whose_rows_all_vanish_is_refused(claim: Path, reading: Reading, rows: list[Any], words: str) -> None:
    write(claim, rows)
    config = configured(claim, filters={"maxMalformed": "1", "maxTooLong": "1"})
    last = replace(reading, loss_on="LastResponse")
    assert refusal(lambda: prepare(config, last), Reason.DATASET_INVALID).startswith(words)


def test_too_many_long_rows_refuse_the_run(claim: Path, reading: Reading) -> None:
    long = [talk(number) for number in range(4)]
    for number, row in enumerate(long):
        row["messages"][0]["content"] = f"{CREATURES[number]}? " * 300
    write(claim, [*long, *(talk(number) for number in range(4))])
    assert dropped(prepare(configured(claim), reading)) == {"TooLong": 4}
    text = refusal(lambda: prepare(configured(claim, filters={"maxTooLong": "0.49"}), reading), Reason.DATASET_INVALID)
    assert text.startswith("4 of 8 training rows of train.jsonl are longer than 512 tokens")


def mixture(claim: Path, weights: tuple[str, str] | None = ("0.5", "0.5"), seed: int = 0, **dataset: Any) -> RunConfig:
    """100 conversations, and 40 instructions in another format."""
    rows = [
        {
            "task": f"Name the {CREATURES[n % 8]} of {NUMBERS[n // 8]}.",
            "answer": f"{n}",
            "by": "Human" if n < 10 else "",
        }
        for n in range(40)
    ]
    write(claim, rows, "tasks")
    other: dict[str, Any] = {
        "name": "tasks",
        "source": "pvc://work/rows",
        "split": "tasks",
        "format": "Instruction",
        "columns": {"instruction": "task", "output": "answer", "provenance": "by"},
        "provenance": "Synthetic",
    }
    if weights:
        dataset["weight"], other["weight"] = weights
    return configured(claim, training={"seed": seed}, mixture=[other], **dataset)


@pytest.mark.parametrize(("weights", "told"), [(("0.99", "0.01"), False), (("0.999", "0.001"), True)])
def test_a_dataset_of_a_mixture_that_gives_no_row_to_train_on_is_told(
    claim: Path, reading: Reading, weights: tuple[str, str], told: bool
) -> None:
    prepared = prepare(mixture(claim, weights), reading)
    assert prepared.document["datasets"][1]["trained"] == (0 if told else 1)
    assert [one.message.partition(":")[0] for one in prepared.advice if one.reason == "DatasetNotTrainedOn"] == (
        ["none of the 40 rows of spec.dataset.mixture[tasks] is trained on"] if told else []
    )


def test_rows_set_aside_for_validation_are_not_told_as_left_out_by_weight(claim: Path, reading: Reading) -> None:
    prepared = prepare(mixture(claim, validation={"fraction": "0.25"}), reading)
    assert dropped(prepared) == {"NotSampled": 60, "SetAside": 20}
    assert (prepared.status.rows, prepared.status.examples, prepared.status.validation_examples) == (140, 60, 20)
    for one in prepared.document["datasets"]:
        assert one["kept"] >= one["trained"] + one["setAside"]
    assert sum(one["setAside"] for one in prepared.document["datasets"]) == 20
    told = [line for line in report_lines(prepared.document) if line.startswith("rows of ")]
    for line, one in zip(told, prepared.document["datasets"], strict=True):
        assert f"({one['name']}): {one['read']} read, " in line
        assert f"{one['kept']} kept, {one['setAside']} set aside for validation, {one['trained']} trained on" in line


@pytest.mark.parametrize("weights", [None, ("0.5", "0.5")])
@pytest.mark.parametrize("aside", ["0.05", "0.25", "0.5"])
def test_replay_is_its_share_of_what_is_trained_on_and_not_of_what_is_set_aside(
    claim: Path, reading: Reading, aside: str, weights: tuple[str, str] | None
) -> None:
    write(claim, [talk(number) for number in range(500, 700)], "general")
    replay = {"source": "pvc://work/rows", "split": "general", "fraction": "0.3"}
    prepared = prepare(mixture(claim, weights, validation={"fraction": aside}, replay=replay), reading)
    trained = {one.name: one.rows for one in prepared.status.sources}
    assert trained["replay"] == pytest.approx(0.3 * sum(trained.values()), abs=0.5)
    assert not [one for one in prepared.advice if one.reason == "FewReplayRows"]


def test_too_few_rows_to_replay_are_told_as_a_share_of_what_is_trained_on(claim: Path, reading: Reading) -> None:
    write(claim, [talk(number) for number in range(500, 510)], "general")
    replay = {"source": "pvc://work/rows", "split": "general", "fraction": "0.5"}
    prepared = prepare(configured(claim, validation={"fraction": "0.5"}, replay=replay), reading)
    (told,) = (one.message for one in prepared.advice if one.reason == "FewReplayRows")
    assert "has 10 rows, 16.7% of all" in told  # of 60


def test_a_mixture_takes_rows_by_weight_and_its_order_follows_from_the_seed(claim: Path, reading: Reading) -> None:
    prepared = prepare(mixture(claim), reading)
    assert {one.name: one.rows for one in prepared.status.sources} == {"dataset": 40, "tasks": 40}
    assert dropped(prepared) == {"NotSampled": 60}
    assert {one.name: one.rows for one in prepared.status.provenance} == {"Unknown": 40, "Synthetic": 30, "Human": 10}
    assert [(one["name"], one["weight"], one["share"]) for one in prepared.document["datasets"]] == [
        ("dataset", "0.5", 0.5),
        ("tasks", "0.5", 0.5),
    ]
    rows = list(prepared.store)
    assert len({tuple(row.input_ids) for row in rows}) == 80
    assert rows == list(prepare(mixture(claim), reading).store)
    assert rows != list(prepare(mixture(claim, seed=1), reading).store)


def test_a_mixture_without_weights_takes_all_rows(claim: Path, reading: Reading) -> None:
    prepared = prepare(mixture(claim, None), reading)
    assert {one.name: one.rows for one in prepared.status.sources} == {"dataset": 100, "tasks": 40}
    assert dropped(prepared) == {}


def test_a_row_that_stands_in_two_datasets_is_trained_on_once(claim: Path, reading: Reading) -> None:
    write(claim, [talk(number) for number in range(90, 110)], "more")
    config = configured(claim, mixture=[{"name": "more", "source": "pvc://work/rows", "split": "more"}])
    prepared = prepare(config, reading)
    assert dropped(prepared) == {"ExactDuplicate": 10}
    assert {one.name: one.rows for one in prepared.status.sources} == {"dataset": 100, "more": 10}


def test_a_dataset_of_which_nothing_is_left_ends_a_mixture_by_weight(claim: Path, reading: Reading) -> None:
    write(claim, [talk(number) for number in range(10)], "more")
    more = {"name": "more", "source": "pvc://work/rows", "split": "more", "weight": "1"}
    config = configured(claim, weight="1", mixture=[more])
    text = refusal(lambda: prepare(config, reading), Reason.DATASET_INVALID)
    assert text == "none of 110 rows is left to train on: 10 ExactDuplicate"


def test_held_out_rows_that_are_trained_on_are_counted_and_too_many_refused(claim: Path, reading: Reading) -> None:
    write(claim, [talk(0), *(talk(number) for number in range(500, 519))], "test")
    prepared = prepare(configured(claim, evaluation=True), reading)
    assert (prepared.status.overlap, prepared.overlap.exact, prepared.overlap.held_out) == (1, 1, 20)
    assert "SharedQuestions" in reasons(prepared)
    assert any("1 of 20 held-out rows ask what a training row asks" in line for line in report_lines(prepared.document))
    config = configured(claim, evaluation=True, filters={"maxOverlap": "0.04"})
    text = refusal(lambda: prepare(config, reading), Reason.DATASET_INVALID)
    assert text.endswith("such as test.jsonl row 1 and train.jsonl row 1")


def test_a_second_run_takes_the_prepared_rows_of_the_first(
    claim: Path, reading: Reading, capsys: pytest.CaptureFixture[str]
) -> None:
    write(claim, [talk(number) for number in range(500, 520)], "test")
    first = prepare(configured(claim, evaluation=True), reading)
    second = prepare(configured(claim, evaluation=True), reading)
    assert (first.status.cached, second.status.cached) == (False, True)
    assert list(first.store) == list(second.store)
    assert first.facts == second.facts
    assert first.overlap == second.overlap
    assert first.status.model_copy(update={"cached": True}) == second.status
    assert "prepared rows: those of an earlier run" in capsys.readouterr().out
    write(claim, [talk(5), *(talk(number) for number in range(600, 619))], "test")  # other held-out rows
    third = prepare(configured(claim, evaluation=True), reading)
    assert (third.status.cached, third.status.overlap) == (True, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"filters": {"deduplication": "Exact"}},
        {"maxExamples": 50},
        {"columns": {"id": "key"}},
        {"provenance": "Human"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_the_rows_makes_them_anew(claim: Path, reading: Reading, change: dict[str, Any]) -> None:
    write(claim, [talk(number, key=str(number)) for number in range(100)])
    prepare(configured(claim), reading)
    assert not prepare(configured(claim, **change), reading).status.cached
    assert prepare(configured(claim, **change), reading).status.cached


def test_other_content_another_limit_or_another_tokenizer_makes_rows_anew(
    claim: Path, reading: Reading, read_chat: Any
) -> None:
    prepare(configured(claim), reading)
    for other in (
        Reading(reading.chat, 511, "Responses"),
        Reading(reading.chat, 512, "All"),
        Reading(read_chat("Zephyr"), 512, "Responses"),
        Reading(read_chat("ChatML", "Unigram"), 512, "Responses"),
    ):
        assert not prepare(configured(claim), other).status.cached
    write(claim, [talk(number) for number in range(101)])
    assert not prepare(configured(claim), reading).status.cached


def test_workers_weights_and_the_seed_take_the_same_prepared_rows(claim: Path, reading: Reading) -> None:
    prepare(mixture(claim), reading)
    assert prepare(mixture(claim, ("0.9", "0.1"), seed=3, workers=1), reading).status.cached


def test_damaged_prepared_rows_are_made_anew(claim: Path, reading: Reading, capsys: pytest.CaptureFixture[str]) -> None:
    first = list(prepare(configured(claim), reading).store)
    (rows,) = (claim / "out" / "row-cache").glob("*/rows.arrow")
    content = rows.read_bytes()
    rows.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = prepare(configured(claim), reading)
    assert not again.status.cached
    assert list(again.store) == first
    assert "are damaged: they are made anew" in capsys.readouterr().out


def test_rows_that_cannot_be_kept_are_trained_on_all_the_same(
    claim: Path, reading: Reading, capsys: pytest.CaptureFixture[str]
) -> None:
    (claim / "out").mkdir()
    (claim / "out" / "row-cache").write_text("a file in the way")
    prepared = prepare(configured(claim), reading)
    assert len(list(prepared.store)) == 100
    assert "prepared rows can't be kept in" in capsys.readouterr().out


def test_a_cache_claim_is_preferred(claim: Path, reading: Reading, tmp_path: Path) -> None:
    config = configured(claim).model_copy(update={"cache_directory": str(tmp_path / "cache")})
    prepare(config, reading)
    assert list((tmp_path / "cache" / "row-cache").iterdir())
    assert not (claim / "out").exists()


def test_another_tokenizer_than_the_one_that_prepared_the_rows_is_noticed(
    claim: Path, reading: Reading, read_chat: Any
) -> None:
    other = Reading(read_chat("ChatML", "Unigram"), 512, "Responses")
    for config in (configured(claim), mixture(claim)):
        for _ in range(2):  # also where the rows come from the cache
            prepared = prepare(config, reading)
            check_same_tokens(prepared.facts, prepared.store, reading)
            with pytest.raises(StageError, match="another tokenizer") as caught:
                check_same_tokens(prepared.facts, prepared.store, other)
            assert caught.value.reason is Reason.INVALID_SPEC


def test_the_histogram_counts_each_row_once(claim: Path, reading: Reading) -> None:
    prepared = prepare(configured(claim), reading)
    for name in ("promptTokens", "responseTokens"):
        bins = prepared.document[name]
        assert sum(one["rows"] for one in bins) == 100
        lengths = [
            sum(label == -100 for label in row.labels)
            if name == "promptTokens"
            else sum(label != -100 for label in row.labels)
            for row in prepared.store
        ]
        assert [one["rows"] for one in bins] == [
            sum(one["from"] <= length < one["below"] for length in lengths) for one in bins
        ]


def choice(number: int, key: str) -> dict[str, Any]:
    options = {
        letter: f"{word} {NUMBERS[number % 12]}"
        for letter, word in zip("ABCD", ("red", "blue", "green", "grey"), strict=True)
    }
    return {"question": f"{talk(number)['messages'][0]['content']} Which?", "options": options, "answer_idx": key}


@pytest.mark.parametrize(
    ("keys", "advice"),
    [("A" * 60, "OneClass"), ("A" * 40 + "BCD" * 7, "DominatingAnswer"), ("ABCD" * 15, None), ("A" * 40, None)],
    ids=["one letter", "two thirds", "even", "too few rows to tell"],
)
def test_one_letter_that_is_right_too_often_is_told(
    claim: Path, reading: Reading, keys: str, advice: str | None
) -> None:
    write(claim, [choice(number, key) for number, key in enumerate(keys)])
    prepared = prepare(configured(claim, format="MultipleChoice"), reading)
    assert prepared.document["answers"] == {key: keys.count(key) for key in sorted(set(keys), key=keys.index)}
    assert [one for one in reasons(prepared) if one != "FewExamples"] == ([advice] if advice else [])


def test_few_different_responses_count_as_classes_and_free_text_does_not(claim: Path, reading: Reading) -> None:
    write(
        claim,
        [{"instruction": talk(n)["messages"][0]["content"], "output": "spam" if n % 5 else "fine"} for n in range(100)],
    )
    prepared = prepare(configured(claim, format="Instruction"), reading)
    assert prepared.document["answers"] == {"spam": 80, "fine": 20}
    assert reasons(prepared) == ["DominatingAnswer", "FewExamples"]
    write(claim, [talk(number) for number in range(100)])
    assert prepare(configured(claim), reading).document["answers"] == {}


def test_the_advice_on_how_many_rows_follows_the_article(claim: Path, reading: Reading) -> None:
    for count, reason in ((499, ["FewExamples"]), (500, [])):
        write(claim, [talk(number) for number in range(count)])
        assert reasons(prepare(configured(claim), reading)) == reason


def test_near_duplicates_that_may_be_boilerplate_are_told(claim: Path, reading: Reading) -> None:
    words = " ".join(f"{word} {other}" for word in NUMBERS[:5] for other in CREATURES[:5])
    rows = [talk(number) for number in range(60)]
    for number, row in enumerate(rows[:20]):
        row["messages"] = [
            {"role": "user", "content": f"{words} {CREATURES[number % 8]} {number}"},
            {"role": "assistant", "content": "Many."},
        ]
    write(claim, rows)
    prepared = prepare(configured(claim), reading)
    assert dropped(prepared) == {"NearDuplicate": 19}
    assert "NearDuplicates" in reasons(prepared)
    assert dropped(prepare(configured(claim, filters={"deduplication": "Exact"}), reading)) == {}


def test_the_sample_shows_what_the_loss_sees(claim: Path, reading: Reading) -> None:
    prepared = prepare(configured(claim), reading)
    assert "⟦one and one of them, herons all.<|im_end|>⟧" in prepared.document["sample"]
    assert report_lines(prepared.document)[-1] == prepared.document["sample"]
