"""Values that models and CRD must judge alike: each is tried on both, in Python and on an API server."""

from __future__ import annotations

from rule_cases.checks import CHECK_CASES
from rule_cases.dataset import DATASET_CASES
from rule_cases.formats import FORMAT_CASES
from rule_cases.gates import GATE_CASES
from rule_cases.places import Case
from rule_cases.settings import SETTING_CASES
from rule_cases.sources import SOURCE_CASES
from rule_cases.templates import TEMPLATE_CASES

CASES: list[Case] = [
    *FORMAT_CASES,
    *TEMPLATE_CASES,
    *DATASET_CASES,
    *SOURCE_CASES,
    *SETTING_CASES,
    *GATE_CASES,
    *CHECK_CASES,
]
