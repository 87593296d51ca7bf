"""Renews docs/sample-report.html and its picture from a real run of SmolLM2-135M on the CPU, which takes minutes.

python tests/data/make_sample_report.py --model FOLDER       # a folder that `make models` made
python tests/data/make_sample_report.py --run RUN            # of a run that is there: no training
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "manifests/samples/medqa-tiny.yaml"
PAGE, PICTURE = ROOT / "docs/sample-report.html", ROOT / "docs/images/report.png"
WIDTH, MARGIN = 1000, 24  # CSS pixels
LAST = "#letters"  # the section that the picture ends with

sys.path.insert(0, str(ROOT / "tests/helpers"))


def write_job(file: Path) -> None:
    """The demo's sample, with all that the page can show: validation, early stopping, retention, latency."""
    job = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    spec = job["spec"]
    spec["dataset"]["validation"] = {"fraction": "0.1"}
    spec["training"] |= {"maxSteps": 40, "warmupSteps": 4, "earlyStopping": {"everySteps": 8, "patience": 3}}
    spec["evaluation"] |= {
        "retention": {"source": "pvc://models/chat_synthetic", "format": "Chat"},
        "latency": {"newTokens": 8, "prompts": 3},
        "maxNewTokens": 24,
    }
    file.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")


def run(model: Path, claim: Path) -> Path:
    """Trains and evaluates below a folder that stands for the claim `models`. Returns the run's folder."""
    for name, target in (
        ("smollm2", model),
        ("medqa_synthetic", ROOT / "tests/data/medqa_synthetic"),
        ("chat_synthetic", ROOT / "tests/data/chat_synthetic"),
    ):
        (claim / name).symlink_to(target.resolve())
    write_job(claim / "job.yaml")
    command = [sys.executable, "-m", "finetune_trainer", "run", "job.yaml", "--mount", f"models={claim}"]
    subprocess.run(command, cwd=claim, check=True)
    return claim / "runs/medqa-tiny/latest"


def take_picture(page: Path, picture: Path) -> None:
    """The top of the page, as a reader first sees it."""
    from browser import browser, opened

    with browser() as running, opened(running, page, WIDTH) as shown:
        box = shown.page.locator(LAST).bounding_box()
        assert box, f"the page has no {LAST}"
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + MARGIN}
        shown.page.screenshot(path=picture, full_page=True, clip=clip)
        assert not shown.complaints, shown.complaints


def main() -> None:
    """Parses the command line and writes both files."""
    parser = argparse.ArgumentParser(description="Renew the sample of the report page and its picture.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, help="the folder of SmolLM2-135M-Instruct")
    source.add_argument("--run", type=Path, help="the folder of a finished run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetune-sample-") as scratch:
        folder = arguments.run or run(arguments.model, Path(scratch))
        page = Path(scratch) / "page.html"
        command = [sys.executable, "-m", "finetune_trainer", "report", str(folder), "--output", str(page)]
        subprocess.run(command, check=True)
        shutil.copyfile(page, PAGE)
        take_picture(page, PICTURE)


if __name__ == "__main__":
    main()
