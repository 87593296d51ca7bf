"""Templates of prompts, options, inputs and responses."""

from __future__ import annotations

from rule_cases.places import Case, everywhere

_TEMPLATES = {
    "{question}": True,
    "{question} {options}": True,
    "{{question}} {question}": True,
    "{{{question}}}": True,
    "{question}{{": True,
    "{question}}}": True,
    'Give {{"answer": 1}}: {question}': True,
    "{options}": False,
    "": False,
    "Q:": False,
    "{question": False,
    "question}": False,
    "{question} }": False,
    "{question} {": False,
    "{{question}}": False,
    "{{{{question}}}}": False,
    "{{{question}}": False,
    "{{question}}}": False,
    "{}{question}": False,
    "{0}{question}": False,
    "{question} {choices}": False,
    "{question!r}": False,
    "{question!}": False,
    "{question:>9}": False,
    "{question:}": False,
    "{question.upper}": False,
    "{question[0]}": False,
    "{question:{options}}": False,
    "{ question }": False,
    "{Question}": False,
    "{que{{stion}": False,
    "{que}}stion}": False,
    "{que{{stion} {question}": False,
    "{opt{question}ions}": False,
    "{question}{opt{question}ions}": False,
    "{question}\u0000{options}": True,
    "ü{question}😀": True,
}
_RESPONSES = {
    "{answer}": True,
    "{letter}": True,
    "{letter}. {answer}": True,
    '{{"answer": "{letter}"}}': True,
    "{answer!z}": False,
    "{answer:{x}}": False,
    "{{answer}}": False,
    "{option}": False,
    "it": False,
}
_OPTIONS = {
    "{option}": True,
    "{letter}: {option}": True,
    "({letter}) {option}": True,
    "{letter}": False,
    "{answer}": False,
}
_INSTRUCTION_TEMPLATES = [
    ("promptTemplate", "{instruction}", True),
    ("promptTemplate", "{{x}} {instruction}{input}", True),
    ("promptTemplate", "{input}", False),
    ("promptTemplate", "{question}", False),
    ("promptTemplate", "{instruction} {question}", False),
    ("promptTemplate", "{instruction", False),
    ("promptTemplate", "", False),
    ("inputTemplate", "Input: {input}", True),
    ("inputTemplate", "Input:", False),
    ("inputTemplate", "{input} {instruction}", False),
    ("responseTemplate", "{output}", True),
    ("responseTemplate", '{{"answer": "{output}"}}', True),
    ("responseTemplate", "{answer}", False),
    ("responseTemplate", "{output!r}", False),
    ("promptTemplate", "x" * (8192 - 13) + "{instruction}", True),
    ("promptTemplate", "x" * (8192 - 12) + "{instruction}", False),
]
TEMPLATE_CASES: list[Case] = [
    *(("dataset.promptTemplate", value, good) for value, good in _TEMPLATES.items()),
    *(("dataset.responseTemplate", value, good) for value, good in _RESPONSES.items()),
    *(("dataset.optionTemplate", value, good) for value, good in _OPTIONS.items()),
    *(
        case
        for field, value, good in _INSTRUCTION_TEMPLATES
        for case in everywhere({"format": "Instruction", field: value}, good)
    ),
]
