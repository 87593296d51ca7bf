"""Format Chat: the shapes in which people hold conversations, and what is said of rows that nobody can learn from."""

from __future__ import annotations

import json
from typing import Any

import pytest

import raw_rows
from finetune_trainer.data.example import Example, Message

ASK, SAY = {"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "4"}
ASKED, SAID = Message("user", "What is 2+2?"), Message("assistant", "4")
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def read(row: object, **columns: str) -> Example:
    return raw_rows.read("Chat", row, columns=columns)


def turns(*messages: object) -> Example:
    return read({"messages": list(messages)})


def problem(*messages: object) -> str:
    return raw_rows.problem("Chat", {"messages": list(messages)}).removeprefix("column 'messages': ")


def bad_row(row: object, **columns: str) -> str:
    return raw_rows.problem("Chat", row, columns=columns)


SHAPES: dict[str, dict[str, Any]] = {
    "OpenAI, Mistral, Together": {"messages": [ASK, SAY]},
    "OpenAI with content in parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "2+2?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "4"}]},
        ]
    },
    "a list of turns as JSON text, as in a CSV file": {"messages": json.dumps([ASK, SAY])},
    "gaps that Parquet filled with null": {
        "messages": [
            {**ASK, "tool_calls": None, "weight": None, "function_call": {"name": None, "arguments": None}},
            {**SAY, "tool_calls": None, "weight": None, "name": None, "reasoning_content": None},
        ],
        "tools": None,
        "system": None,
    },
    "ShareGPT": {"conversations": [{"from": "human", "value": "What is 2+2?"}, {"from": "gpt", "value": "4"}]},
    "ShareGPT's file with other speakers": {
        "id": "x",
        "conversations": [{"from": "user", "value": "What is 2+2?"}, {"from": "chatgpt", "value": "4"}],
    },
    "turns under the name of the other shape": {"conversations": [ASK, SAY]},
    "speakers in capitals": {"messages": [{**ASK, "role": "User"}, {**SAY, "role": "ASSISTANT"}]},
    "Bedrock": {
        "schemaVersion": "bedrock-conversation-2024",
        "messages": [
            {"role": "user", "content": [{"text": "What is 2+2?"}]},
            {"role": "assistant", "content": [{"text": "4"}]},
        ],
    },
    "Vertex": {
        "contents": [
            {"role": "user", "parts": [{"text": "What is 2+2?"}]},
            {"role": "model", "parts": [{"text": "4"}]},
        ]
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_conversation_is_the_same_in_whatever_shape_it_comes(shape: str) -> None:
    example = read(SHAPES[shape])
    if "parts" in shape:
        assert [message.content for message in example.messages] == ["What is\n2+2?", "4"]  # as servers join parts
    else:
        assert example.messages == (ASKED, SAID)
        assert example.sha256 == turns(ASK, SAY).sha256
    assert (example.tools, example.text, example.choices) == ((), None, None)


SYSTEMS: dict[str, dict[str, Any]] = {
    "a system turn": {"messages": [{"role": "system", "content": "Be brief."}, ASK, SAY]},
    "a developer's turn": {"messages": [{"role": "developer", "content": "Be brief."}, ASK, SAY]},
    "ShareGPT": {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "What is 2+2?"},
            {"from": "gpt", "value": "4"},
        ]
    },
    "a column beside the turns": {"messages": [ASK, SAY], "system": "Be brief."},
    "Bedrock": {"messages": [ASK, SAY], "system": [{"text": "Be brief."}]},
    "Vertex": {"contents": [ASK, SAY], "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]}},
    "Vertex in Python": {"contents": [ASK, SAY], "system_instruction": {"parts": [{"text": "Be brief."}]}},
}


@pytest.mark.parametrize("shape", SYSTEMS)
def test_a_system_prompt_may_stand_among_the_turns_or_beside_them(shape: str) -> None:
    assert read(SYSTEMS[shape]).messages == (Message("system", "Be brief."), ASKED, SAID)


@pytest.mark.parametrize("empty", [None, "", "  \n", []])
def test_an_empty_system_prompt_is_none(empty: object) -> None:
    assert read({"messages": [ASK, SAY], "system": empty}).messages == (ASKED, SAID)
    assert turns({"role": "system", "content": empty}, ASK, SAY).messages == (ASKED, SAID)


def test_a_column_of_another_name_is_read_alone() -> None:
    row = {"dialogue": [ASK, SAY], "messages": "x", "instructions": "Be brief.", "system": "No.", "tools": 5}
    example = read(row, messages="dialogue", system="instructions", tools="apis")
    assert example.messages == (Message("system", "Be brief."), ASKED, SAID)
    assert example.tools == ()


CALLS: dict[str, list[dict[str, Any]]] = {
    "OpenAI: arguments as text": [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
            ],
        }
    ],
    "arguments as an object, with Parquet's gaps": [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": {"a": 2, "b": 2, "city": None}}}],
        }
    ],
    "calls as JSON text": [{"role": "assistant", "tool_calls": json.dumps([{"id": "c1", **CALL}])}],
    "Anthropic": [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 2, "b": 2}}],
        }
    ],
    "Bedrock": [
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 2, "b": 2}}}],
        }
    ],
}


@pytest.mark.parametrize("shape", CALLS)
def test_a_call_of_a_tool_becomes_what_templates_read(shape: str) -> None:
    assert turns(ASK, *CALLS[shape]).messages[1] == Message(
        "assistant", "", extra={"tool_calls": [{"id": "c1", **CALL}]}
    )


ANONYMOUS_CALLS: dict[str, dict[str, Any]] = {
    "OpenAI's first way": {"role": "assistant", "content": None, "function_call": CALL["function"]},
    "ShareGPT, LLaMA-Factory": {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2, "b": 2}}'},
    "ms-swift": {"role": "tool_call", "content": '{"name": "add", "parameters": {"a": 2, "b": 2}}'},
    "Vertex": {"role": "model", "parts": [{"functionCall": {"name": "add", "args": {"a": 2, "b": 2}}}]},
}


@pytest.mark.parametrize("shape", ANONYMOUS_CALLS)
def test_a_call_needs_no_id(shape: str) -> None:
    assert turns(ASK, ANONYMOUS_CALLS[shape]).messages[1].extra == {"tool_calls": [CALL]}


RESULTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "OpenAI": ({"role": "tool", "tool_call_id": "c1", "content": "4"}, {"tool_call_id": "c1"}),
    "OpenAI with parts": ({"role": "tool", "tool_call_id": "c1", "content": [{"text": "4"}]}, {"tool_call_id": "c1"}),
    "OpenAI's first way": ({"role": "function", "name": "add", "content": "4"}, {"name": "add"}),
    "ShareGPT, LLaMA-Factory": ({"from": "observation", "value": "4"}, {}),
    "ms-swift": ({"role": "tool_response", "content": "4"}, {}),
    "Llama": ({"role": "ipython", "content": "4"}, {}),
    "Anthropic": (
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "4"}]},
        {"tool_call_id": "c1"},
    ),
    "Anthropic with parts": (
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "4"}]}],
        },
        {"tool_call_id": "c1"},
    ),
    "Bedrock": (
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"json": 4}]}}]},
        {"tool_call_id": "c1"},
    ),
    "Vertex": (
        {"role": "user", "parts": [{"functionResponse": {"name": "add", "response": 4}}]},
        {"name": "add"},
    ),
}


@pytest.mark.parametrize("shape", RESULTS)
def test_a_result_of_a_tool_becomes_a_turn_of_the_tool(shape: str) -> None:
    turn, extra = RESULTS[shape]
    call = {"role": "assistant", "tool_calls": [{"id": "c1", **CALL}]}
    assert turns(ASK, call, turn, SAY).messages[2] == Message("tool", "4", extra=extra)


def test_results_of_several_calls_follow_each_other_and_a_user_may_go_on_behind_them() -> None:
    results = [{"type": "tool_result", "tool_use_id": number, "content": number} for number in ("c1", "c2")]
    said = {"role": "user", "content": [*results, {"type": "text", "text": "And now?"}]}
    example = turns(ASK, {"role": "assistant", "tool_calls": [CALL, CALL]}, said, SAY)
    assert [(one.role, one.content) for one in example.messages[2:]] == [
        ("tool", "c1"),
        ("tool", "c2"),
        ("user", "And now?"),
        ("assistant", "4"),
    ]


def test_calls_in_turns_of_their_own_belong_to_the_assistants_turn_before() -> None:
    call = {"from": "function_call", "value": json.dumps(CALL)}
    example = turns(
        ASK, {"from": "gpt", "value": "Let me see."}, call, call, {"from": "observation", "value": "4"}, SAY
    )
    assert example.messages[1] == Message("assistant", "Let me see.", extra={"tool_calls": [CALL, CALL]})
    assert [message.role for message in example.messages] == ["user", "assistant", "tool", "assistant"]


def test_a_tool_may_answer_with_nothing_and_a_conversation_may_end_with_a_call() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    example = turns(ASK, call, {"role": "tool", "content": ""}, call)
    assert example.messages[2:] == (Message("tool", ""), Message("assistant", "", extra={"tool_calls": [CALL]}))


def test_a_tools_turn_needs_no_call_where_the_assistant_wrote_it_as_text() -> None:
    example = turns(ASK, {"role": "assistant", "content": "add(2, 2)"}, {"role": "tool", "content": "4"}, SAY)
    assert [message.role for message in example.messages] == ["user", "assistant", "tool", "assistant"]


def test_arguments_keep_a_null_that_was_written_as_text() -> None:
    call = {"name": "add", "arguments": '{"a": null, "b": [null]}'}
    example = turns(ASK, {"role": "assistant", "function_call": call})
    assert example.messages[1].extra["tool_calls"][0]["function"]["arguments"] == {"a": None, "b": [None]}


TOOLS: dict[str, dict[str, Any]] = {
    "OpenAI": {"tools": [TOOL]},
    "as JSON text": {"tools": json.dumps([TOOL])},
    "OpenAI's first way": {"functions": [TOOL["function"]]},
    "OpenAI's Responses": {"tools": [{"type": "function", **TOOL["function"]}]},
    "a schema as JSON text": {"tools": [{"function": {"name": "add", "parameters": '{"type": "object"}'}}]},
    "Anthropic": {"tools": [{"name": "add", "input_schema": {"type": "object"}}]},
    "Vertex": {"tools": [{"functionDeclarations": [TOOL["function"]]}]},
    "Bedrock": {
        "toolConfig": {"tools": [{"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}]},
    },
}


@pytest.mark.parametrize("shape", TOOLS)
def test_tools_become_what_templates_read(shape: str) -> None:
    assert read({"messages": [ASK, SAY], **TOOLS[shape]}).tools == (TOOL,)


@pytest.mark.parametrize("nothing", [None, "", " ", [], "[]"])
def test_a_row_may_have_no_tools(nothing: object) -> None:
    assert read({"messages": [ASK, SAY], "tools": nothing}).tools == ()


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": "4", "reasoning_content": "Two and two."},
        {"role": "assistant", "content": "4", "reasoning": "Two and two."},
        {"role": "assistant", "content": "4", "thinking": "Two and two."},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Two and two."}, {"text": "4"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Two and two."}]},
                {"type": "text", "text": "4"},
            ],
        },
        {
            "role": "assistant",
            "content": [{"reasoningContent": {"reasoningText": {"text": "Two and two."}}}, {"text": "4"}],
        },
        {"role": "model", "parts": [{"text": "Two and two.", "thought": True}, {"text": "4"}]},
    ],
)
def test_reasoning_goes_by_the_templates_name(turn: dict[str, Any]) -> None:
    assert turns(ASK, turn).messages[1] == Message("assistant", "4", extra={"reasoning_content": "Two and two."})


def test_reasoning_in_the_content_stays_there_as_the_template_knows_its_marks() -> None:
    text = "<think>\nTwo and two.\n</think>\n\n4"
    assert turns(ASK, {"role": "assistant", "content": text}).messages[1] == Message("assistant", text)


@pytest.mark.parametrize(
    ("flag", "may_train"),
    [
        ({}, True),
        ({"weight": 0}, False),
        ({"weight": 1}, True),
        ({"weight": 0.0}, False),
        ({"train": False}, False),
        ({"train": True}, True),
        ({"training": False}, False),
        ({"train_on_turn": False}, False),
        ({"loss": False}, False),
        ({"train": None}, True),
        ({"train": False, "weight": 0}, False),
    ],
)
def test_a_turn_says_whether_the_loss_may_see_it(flag: dict[str, Any], may_train: bool) -> None:
    example = turns(ASK, {**SAY, **flag}, ASK, SAY)
    assert [one.train for one in example.messages if one.role == "assistant"] == [may_train, True]


def test_flags_are_part_of_the_digest_and_so_are_tools_reasoning_and_order() -> None:
    rows = [
        {"messages": [ASK, SAY, ASK, SAY]},
        {"messages": [ASK, {**SAY, "train": False}, ASK, SAY]},
        {"messages": [ASK, {**SAY, "reasoning": "Two and two."}, ASK, SAY]},
        {"messages": [ASK, SAY, ASK, SAY], "tools": [TOOL]},
        {"messages": [ASK, SAY, ASK, SAY], "system": "Be brief."},
    ]
    assert len({read(row).sha256 for row in rows}) == len(rows)


def test_the_question_is_all_that_the_user_says() -> None:
    example = turns({"role": "system", "content": "s"}, {**ASK, "content": "Hi"}, SAY, {**ASK, "content": "Why?"}, SAY)
    assert example.question == "Hi\nWhy?"


def test_a_text_keeps_its_indentation_and_loses_blank_lines_around_it() -> None:
    answer = {"role": "assistant", "content": "\r\n \n    return x\r\n\tand\v y  \n"}
    assert turns({**ASK, "content": "\ufeff Go on:\n"}, answer).messages == (
        Message("user", " Go on:"),
        Message("assistant", "    return x\n\tand\n y"),
    )


def test_what_a_tool_answers_stays_as_it_is() -> None:
    call = {"role": "assistant", "tool_calls": [CALL]}
    assert turns(ASK, call, {"role": "tool", "content": " \n4\n"}, SAY).messages[2].content == " \n4\n"


def test_what_looks_like_a_template_or_a_control_token_is_text() -> None:
    text = "{{ x }} {content} {% raw %} <|im_end|> <s> [INST]"
    assert turns({**ASK, "content": text}, {**SAY, "content": text}).messages == (
        Message("user", text),
        Message("assistant", text),
    )


def test_a_text_of_a_megabyte_is_a_text() -> None:
    assert len(turns({**ASK, "content": "word " * 300_000}, SAY).messages[0].content) == 1_499_999


MANY = "train must be true or false, 1 or 0, not"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([ASK, ASK, SAY], "turns 1 and 2 are both the user's: join them into one"),
        ([ASK, SAY, SAY], "turns 2 and 3 are both the assistant's: join them into one"),
        ([SAY, ASK, SAY], "turn 1 is the assistant's, and no user spoke before: begin with the user's turn"),
        (
            [{"role": "system", "content": "s"}, SAY],
            "turn 2 is the assistant's, and no user spoke before: begin with the user's turn",
        ),
        (
            [{"role": "tool", "content": "4"}, SAY],
            "turn 1 is the tool's, and no user spoke before: begin with the user's turn",
        ),
        (
            [ASK, {"role": "tool", "content": "4"}, SAY],
            "turn 2 is a tool's right after the user's: put the assistant's call between them",
        ),
        (
            [ASK, SAY, ASK],
            "the last turn is the user's: there is nothing to learn behind the assistant's turn 2; end there",
        ),
        (
            [ASK, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "4"}],
            "the last turn is the tool's: there is nothing to learn behind the assistant's turn 2; end there",
        ),
        ([ASK], "no turn is the assistant's, so that there is nothing to learn: take the row out"),
        (
            [{"role": "system", "content": "s"}],
            "no turn is the assistant's, so that there is nothing to learn: take the row out",
        ),
        (
            [{"role": "system", "content": "s"}, {"role": "developer", "content": "d"}, ASK, SAY],
            "turn 2 is a second system turn: join them into one at the beginning",
        ),
        (
            [ASK, {"role": "system", "content": "s"}, SAY],
            "turn 2 is a system turn behind others: put it at the beginning",
        ),
        ([ASK, {**SAY, "content": ""}], "turn 2 (assistant) says nothing: give it a text, or take the row out"),
        ([ASK, {**SAY, "content": " \n"}], "turn 2 (assistant) says nothing: give it a text, or take the row out"),
        ([ASK, {**SAY, "content": None}], "turn 2 (assistant) says nothing: give it a text, or take the row out"),
        ([ASK, {**SAY, "content": []}], "turn 2 (assistant) says nothing: give it a text, or take the row out"),
        ([{**ASK, "content": ""}, SAY], "turn 1 (user) says nothing: give it a text, or take the row out"),
        (
            [ASK, {**SAY, "train": False}, ASK, {**SAY, "weight": 0}],
            "no turn of the assistant may be trained on, as each says so: take the row out",
        ),
        ([ASK, {**SAY, "train": "no"}], f"turn 2 {MANY} 'no'"),
        ([ASK, {**SAY, "train": 0.5}], f"turn 2 {MANY} 0.5"),
        ([ASK, {**SAY, "train": float("nan")}], f"turn 2 {MANY} nan"),
        (
            [ASK, {**SAY, "train": True, "weight": 0}],
            "turn 2 says both to train on it and not to: train and weight differ; keep one",
        ),
        (
            [ASK, {**SAY, "train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]}],
            "turn 2 has train_detail: a turn is trained on whole or not at all; set train instead",
        ),
        (
            [{**ASK, "role": "narrator"}, SAY],
            "turn 1 has the role 'narrator': name one of system, user, assistant, tool",
        ),
        ([{**ASK, "role": 1}, SAY], "turn 1 has the role 1: name one of system, user, assistant, tool; human, gpt"),
        ([{"content": "x"}, SAY], "turn 1 has no role: name one of system, user, assistant, tool; human, gpt"),
        ([ASK, "4"], "turn 2 must be an object with a role and a content, not '4'"),
        ([ASK, {**SAY, "content": 4}], "turn 2 must have a text as its content, not 4"),
        ([ASK, {**SAY, "content": {"answer": 4}}], "turn 2 must have a text as its content, not {'answer': 4}"),
        (
            [{**ASK, "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}, SAY],
            "turn 1 has a part of type 'image_url': only text can be trained on; take the row out",
        ),
        (
            [{**ASK, "content": [{"image": {"format": "png"}}]}, SAY],
            "turn 1 has a part {'image': {'format': 'png'}}: only text can be trained on; take the row out",
        ),
        ([{**ASK, "content": [5]}, SAY], "turn 1 has a part 5: only text can be trained on; take the row out"),
        ([{**ASK, "tool_calls": [CALL]}, SAY], "turn 1 (user) calls a tool: only the assistant may"),
        (
            [ASK, {**SAY, "content": [{"functionResponse": {"name": "add", "response": 4}}]}],
            "turn 2 (assistant) answers for a tool: give the answer a turn of the role tool",
        ),
        ([ASK, {**SAY, "tool_calls": [{"id": "c1"}]}], "turn 2 calls a tool without naming it: {'id': 'c1'}"),
        (
            [ASK, {**SAY, "tool_calls": [{"function": {"name": "add", "arguments": "[2]"}}]}],
            "turn 2 calls 'add' with arguments that are no object: [2]",
        ),
        (
            [ASK, {**SAY, "tool_calls": [{"function": {"name": "add", "arguments": "{2"}}]}],
            "turn 2 '{2' is no JSON map or list: Expecting property name",
        ),
        (
            [ASK, {**SAY, "function_call": {"name": "add", "arguments": {"a": float("inf")}}}],
            "turn 2 holds inf, which JSON can't: write it as text",
        ),
        (
            [ASK, {"from": "function_call", "value": "add"}],
            "turn 2 'add' is no JSON map or list: Expecting value",
        ),
        (
            [ASK, SAY, {"from": "function_call", "value": json.dumps(CALL), "train": False}],
            "turns 2 and 3 are one turn of the assistant: train on both or on none",
        ),
        ([ASK, {**SAY, "reasoning": 5}], "turn 2 has a reasoning that is no text: 5"),
        ([ASK, {**SAY, "name": 5}], "turn 2 name must be a text that is not empty, not 5"),
        (
            [ASK, {**SAY, "content": "a\x07b"}],
            "turn 2 character 2 is U+0007, a control character: take it out of the text",
        ),
        ([ASK, {**SAY, "content": "\ud83d"}], "turn 2 character 1 is U+D83D, half of a surrogate pair: take it out"),
        ([ASK, {**SAY, "content": ["a", "\x00"]}], "turn 2 character 1 is U+0000, a control character"),
        ([ASK, {**SAY, "reasoning": "\x1b"}], "turn 2 reasoning character 1 is U+001B, a control character"),
        (
            [ASK, {**SAY, "function_call": {"name": "add", "arguments": {"a": "\x00"}}}],
            "turn 2 character 1 is U+0000, a control character",
        ),
    ],
)
def test_what_nobody_can_learn_from_is_refused_with_its_turn_and_a_remedy(messages: list[Any], words: str) -> None:
    assert problem(*messages).startswith(words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "column 'messages': missing: the row has no columns; name the right one in dataset.columns, or add it"),
        ({"text": "x"}, "column 'messages': missing: the row has text; name the right one in dataset.columns"),
        ({"messages": []}, "column 'messages': must be a list of turns, not []"),
        ({"messages": None, "conversations": {}}, "column 'conversations': must be a list of turns, not {}"),
        ({"messages": "user: hi"}, "column 'messages': 'user: hi' is no JSON map or list: Expecting value"),
        (
            {"messages": [{"role": "system", "content": "s"}, ASK, SAY], "system": "Be brief."},
            "column 'system': column 'messages' has a system turn, too: keep one of them",
        ),
        ({"messages": [ASK, SAY], "system": 5}, "column 'system': must have a text as its content, not 5"),
        ({"messages": [ASK, SAY], "tools": 5}, "column 'tools': must be a list of tools, not 5"),
        ({"messages": [ASK, SAY], "tools": {"a": 1}}, "column 'tools': must be a list of tools, not {'a': 1}"),
        ({"messages": [ASK, SAY], "tools": ["add"]}, "column 'tools': tool 1 must be an object with a name, not 'add'"),
        ({"messages": [ASK, SAY], "tools": [TOOL, {"type": "x"}]}, "column 'tools': tool 2 has no name: {'type': 'x'}"),
        (
            {"messages": [ASK, SAY], "tools": [{"name": "add", "parameters": "{"}]},
            "column 'tools': tool 1 '{' is no JSON map or list",
        ),
        ([1, 2], "must be an object with columns, not [1, 2]"),
    ],
)
def test_a_row_without_a_conversation_is_refused_by_its_column(row: object, words: str) -> None:
    assert bad_row(row).startswith(words)


def test_turns_are_counted_as_they_stand_in_the_row() -> None:
    row = {"messages": [ASK, SAY, SAY], "system": "Be brief."}
    assert bad_row(row) == "column 'messages': turns 2 and 3 are both the assistant's: join them into one"
    call = {"role": "tool_call", "content": json.dumps(CALL)}
    words = "turns 4 and 5 are both the user's: join them into one"
    assert problem(ASK, call, call, ASK, ASK, SAY) == words
