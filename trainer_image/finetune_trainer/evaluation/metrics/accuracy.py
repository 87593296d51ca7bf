"""Accuracy: the option whose filled response template is likeliest."""

from __future__ import annotations

from finetune_trainer.evaluation.metrics.base import Likelihoods
from finetune_trainer.evaluation.metrics.choice import ChoiceMetric
from finetune_trainer.evaluation.questions import Group, Question


class Accuracy(ChoiceMetric):
    """Mean log-likelihood per token of each option's response, where the options differ.

    Left out are the tokens that all responses begin with: they are equally likely under each, and dividing them by
    different lengths would favour long options. Left out is the terminator, too, which says nothing of the option.
    """

    name = "Accuracy"
    label = ""
    definition = (
        "share of rows whose right option has the likeliest response: mean log-likelihood per token of the filled "
        "response template, after the tokens that all options share, without the end of the turn"
    )
    needs = Group.RESPONSES

    def scores(self, question: Question, likelihoods: Likelihoods) -> list[float]:
        responses = question.responses
        ends = [len(response) - question.terminator_length for response in responses]
        shared = 0
        while shared < min(ends) - 1 and len({response[shared] for response in responses}) == 1:
            shared += 1
        return [sum(values[shared:end]) / (end - shared) for values, end in zip(likelihoods, ends, strict=True)]
