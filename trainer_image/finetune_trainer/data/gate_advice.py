"""What to know before training of gates that the held-out rows are too few for. Pure."""

from __future__ import annotations

from finetune_api.base import cut
from finetune_api.evaluation import EvaluationSpec
from finetune_api.gates import GateSpec, is_share
from finetune_api.results import Advice
from finetune_trainer.data.power import DEFAULT_ALPHA, detectable_gain, rows_for_gain, rows_for_margin, showable_margin

# Nobody knows before training on how many rows base and tuned will differ: an assumption, which the advice tells. A
# difference on more rows than this would need more of them.
ASSUMED_DISCORDANT = 0.2
FEW_ROWS = "FewRowsForGates"
_MAX_MESSAGE = 512


def gate_advice(evaluation: EvaluationSpec | None, rows: int) -> list[Advice]:
    """Gates that ``rows`` held-out rows will hardly decide, as one advice. Of shares of rows only: nothing is known
    before of how another metric varies from row to row.
    """
    gates = (evaluation.gates if evaluation else None) or []
    found = [said for gate in gates if is_share(gate.metric) for said in _too_few(gate, rows)]
    if not found:
        return []
    text = (
        f"{rows:,} held-out rows are few for what the gates ask: {'; '.join(found)} (with 80% power, if the two models "
        f"differ on {ASSUMED_DISCORDANT:.0%} of the rows, which is assumed). Such a gate may well end as Inconclusive: "
        "take more rows, or ask for a larger difference"
    )
    return [Advice(reason=FEW_ROWS, message=cut(text, _MAX_MESSAGE))]


def _too_few(gate: GateSpec, rows: int) -> list[str]:
    alpha = float(gate.significance or DEFAULT_ALPHA)
    found = []
    if gain := float(gate.minimum_gain or 0):
        share = max(ASSUMED_DISCORDANT, gain)
        if (wanted := rows_for_gain(gain, share, alpha)) > rows:
            least = detectable_gain(rows, share, alpha)
            tell = f"these rows tell {least:.3g}" if least <= share else "these rows tell none"
            found.append(f"{gate.metric} minimumGain {gate.minimum_gain} takes {wanted:,}, and {tell}")
    if gate.not_worse_than:
        margin = float(gate.not_worse_than.margin)
        if (wanted := rows_for_margin(margin, ASSUMED_DISCORDANT, alpha)) > rows:
            least = showable_margin(rows, ASSUMED_DISCORDANT, alpha)
            asked = f"{gate.metric} notWorseThan.margin {gate.not_worse_than.margin}"
            found.append(f"{asked} takes {wanted:,}, and these rows show {least:.3g}")
    return found
