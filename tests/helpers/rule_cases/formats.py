"""What goes with a format of rows: its columns and templates, in each place where rows stand."""

from __future__ import annotations

from rule_cases.places import Case, everywhere, mixture, rows

# What only some formats have, each with a value that is right for them.
FORMATS = ("MultipleChoice", "Chat", "Instruction", "Text")
FORMAT_FIELDS: dict[str, dict[str, str]] = {
    "promptTemplate": {"MultipleChoice": "{question}", "Instruction": "{instruction}"},
    "optionTemplate": {"MultipleChoice": "{option}"},
    "inputTemplate": {"Instruction": "{input}"},
    "responseTemplate": {"MultipleChoice": "{answer}", "Instruction": "{output}"},
    "endOfText": {"Text": "Omit"},
}
FORMAT_COLUMNS = {
    "question": ("MultipleChoice",),
    "options": ("MultipleChoice",),
    "answer": ("MultipleChoice",),
    "answerKey": ("MultipleChoice",),
    "messages": ("Chat",),
    "tools": ("Chat",),
    "system": ("Chat", "Instruction"),
    "instruction": ("Instruction",),
    "input": ("Instruction",),
    "output": ("Instruction",),
    "text": ("Text",),
    "provenance": FORMATS,
    "id": FORMATS,
}
FORMAT_CASES: list[Case] = [
    *(
        case
        for name in FORMATS
        for field, values in FORMAT_FIELDS.items()
        for case in everywhere({"format": name, field: values.get(name, next(iter(values.values())))}, name in values)
    ),
    *(
        case
        for name in FORMATS
        for column, formats in FORMAT_COLUMNS.items()
        for case in everywhere({"format": name, "columns": {column: "x"}}, name in formats)
    ),
    *everywhere({"format": "Chat", "columns": {}}, True),
    *everywhere({"format": "Chat", "columns": {"messages": ""}}, False),
    *everywhere({"format": "Chat", "columns": {"messages": "x" * 128}}, True),
    *everywhere({"format": "Chat", "columns": {"messages": "x" * 129}}, False),
    *everywhere({"format": "Preference"}, False),
    *everywhere({"format": "Text", "endOfText": "omit"}, False),
    # Without a format, spec.dataset is MultipleChoice, and the others are as spec.dataset.
    ("dataset", rows(columns={"messages": "x"}), False),
    ("dataset", rows(columns={"question": "x"}), True),
    ("dataset", mixture({"columns": {"question": "x"}}), False),
    ("dataset", mixture({"columns": {}}), False),
    ("dataset", mixture({"promptTemplate": "{question}"}), False),
    ("evaluation", {"dataset": rows(columns={"question": "x"})}, False),
    ("evaluation", {"dataset": rows(responseTemplate="{answer}")}, False),
    ("evaluation", {"dataset": rows(endOfText="Omit")}, False),
]
