"""Messages are found in output by patterns, as DESDM's QCF does, without what it gets wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import UsageError
from dbb.jobs.messages import LONGEST, MOST, Message, MessagePattern, MessageRules, default_patterns, load_patterns
from dbb.patterncost import cost_of

CASES = (
    "01_basic",
    "03_priority_same_place",
    "05_multi_line",
    "07_only_matched",
    "09_execname_own",
    "11_quotes_and_length",
    "13_no_patterns",
    "15_wcl_patterns",
    "17_over_99_patterns",
)


def messages_of(rules: MessageRules, *pieces: str, execnames: tuple[str, ...] = ("prog",)) -> list[Message]:
    matcher = rules.matcher(execnames)
    found = [message for piece in pieces for message in matcher.feed(piece.encode())]
    return found + matcher.finish()


def texts_of(rules: MessageRules, *pieces: str) -> list[str]:
    return [message.text for message in messages_of(rules, *pieces)]


def rules_of(*patterns: str, **options: Any) -> MessageRules:
    return MessageRules([MessagePattern(n, text, priority=n, **options) for n, text in enumerate(patterns, start=1)])


def case_rules(case: dict[str, Any]) -> MessageRules:
    patterns = [
        MessagePattern(
            row["id"],
            row["pattern"],
            row["lvl"],
            row["priority"],
            row["execname"],
            row["number_of_lines"],
            row["only_matched"] == "Y",
        )
        for row in case["patterns"]
        if row["used"] == "y"
    ]
    of_wcl = case["wcl_patterns"].get("patterns", {}).values()  # read before those of the database
    return MessageRules([*(MessagePattern(9999, one["pattern"], int(one["lvl"]), 0) for one in of_wcl), *patterns])


def case_messages(shared: Path, name: str) -> tuple[list[Message], list[dict[str, Any]]]:
    folder = shared / "desdm_cases" / "qcf"
    case = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    expected = json.loads((folder / f"{name}.expected.json").read_text(encoding="utf-8"))
    found = messages_of(
        case_rules(case), *(f"{text}\n" for text in case["writes"]), execnames=tuple(case["execname"].split(","))
    )
    return found, expected["result"]["rows"] if expected["ok"] else []


# What DESDM's code gets wrong, and what comes out here instead.
OTHER_LINES = {"01_basic": [2, 4, 5], "05_multi_line": [1, 5]}  # it counts lines of one write twice
OTHER_PATTERNS = {
    "03_priority_same_place": [1, 1],  # it takes the pattern with the largest number
    "17_over_99_patterns": [1, 99, 100, 121],  # it looks for 99 patterns only, and mistakes which it found
}


@pytest.mark.parametrize("name", sorted(set(CASES) - {"13_no_patterns", "17_over_99_patterns"}))
def test_messages_are_those_of_desdm(name: str, shared: Path) -> None:
    found, rows = case_messages(shared, name)
    doubled = [message.text.replace("'", "''") for message in found]  # it writes SQL by hand
    assert doubled == [row["message"] for row in rows]
    assert [message.line for message in found] == OTHER_LINES.get(name, [row["lineno"] for row in rows])
    assert [message.pattern for message in found] == OTHER_PATTERNS.get(name, [row["pat_id"] for row in rows])
    if name not in OTHER_PATTERNS:
        assert [message.level for message in found] == [row["lvl"] for row in rows]
    assert {message.time for message in found} == {None}


def test_without_patterns_there_are_no_messages_where_desdm_breaks(shared: Path) -> None:
    assert case_messages(shared, "13_no_patterns")[0] == []


def test_more_than_99_patterns_are_all_found_where_desdm_finds_one(shared: Path) -> None:
    found, rows = case_messages(shared, "17_over_99_patterns")
    assert len(rows) == 1
    assert [message.pattern for message in found] == OTHER_PATTERNS["17_over_99_patterns"]
    assert [message.line for message in found] == [1, 2, 3, 4]


def test_the_smallest_priority_wins_even_further_to_the_right() -> None:
    rules = MessageRules([MessagePattern(1, "warn", 2, priority=20), MessagePattern(2, "fatal", 1, priority=10)])
    assert [message.pattern for message in messages_of(rules, "WARN: this is FATAL\n")] == [2]


def test_groups_in_a_pattern_do_not_disturb_others() -> None:
    rules = rules_of(r"(a)(b)?\1", "(x|(y))z")
    assert [message.pattern for message in messages_of(rules, "yz\naa\n")] == [2, 1]


def test_a_pattern_of_another_program_is_not_looked_for() -> None:
    assert messages_of(rules_of("error", execname="other"), "error\n") == []


def test_a_traceback_is_one_message_with_its_last_line() -> None:
    text = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: no\nafter\n'
    (message,) = messages_of(rules_of("Traceback"), text)
    assert message.text == text.removesuffix("\nafter\n")


def test_two_tracebacks_in_a_row_are_two_messages() -> None:
    one = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: no\n'
    assert [message.line for message in messages_of(rules_of("Traceback"), one * 2)] == [1, 5]


def test_a_line_that_ends_with_a_colon_takes_one_more() -> None:
    assert texts_of(rules_of("failed"), "failed:\nreason\nfailed\nother\n") == ["failed:\nreason", "failed"]


def test_ignored_lines_give_no_message() -> None:
    rules = MessageRules([MessagePattern(1, "error")], ignore=[("global", "0 errors"), ("other", "error")])
    assert texts_of(rules, "0 errors\n5 errors\n") == ["5 errors"]


def test_a_time_stamp_in_the_text_is_found() -> None:
    (message,) = messages_of(rules_of("error"), "2017/03/01 12:30:59 error\n")
    assert message.time == "2017-03-01 12:30:59"


def test_an_unfinished_last_line_counts() -> None:
    assert texts_of(rules_of("error"), "error at the end") == ["error at the end"]


def test_carriage_returns_part_lines_but_do_not_count_them() -> None:
    found = messages_of(rules_of("error"), "1%\r2%\rerror\r\nfine\r\nerror\n")
    assert [(message.text, message.line) for message in found] == [("error", 1), ("error", 3)]


def test_a_huge_line_is_not_kept_and_counts_once() -> None:
    matcher = rules_of(r".*x.*y.*ERROR", "later").matcher(["prog"])
    found = [message for _ in range(200) for message in matcher.feed(b"y" * (1 << 20))]
    found += matcher.feed(b"\nlater\n")
    assert [(message.text, message.line) for message in found] == [("later", 2)]


def test_a_pattern_sees_the_beginning_of_a_line_only() -> None:
    rules = rules_of("error")
    assert texts_of(rules, "x" * (LONGEST - 5) + "error\n") != []
    assert texts_of(rules, "x" * LONGEST + "error\n") == []


@pytest.mark.parametrize(
    "pattern",
    [r"(a+)+b", r"(\w+\s?)*x", r"(a|aa)+$", r"(.|\s)*z", r"(?:foo.*)*bar", r"([a-z]+)*!", r"^(x+x+)+y", r"(a?){30}b"],
)
def test_a_pattern_whose_search_might_never_end_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"message pattern 7: .* may never end"):
        MessageRules([MessagePattern(7, pattern)])
    with pytest.raises(UsageError, match=r"ignored messages: .* may never end"):
        MessageRules(ignore=[("global", pattern)])


@pytest.mark.parametrize(
    ("pattern", "cost"),
    [
        ("error", 1),
        ("^error", 0),
        ("error.*", 1),
        ("a.*b", 2),
        (".*a.*b", 3),
        (r"^(\w+\.)*\w*Error: ", 3),
        (r"(\d+[,;] ?)*$", 3),
        ("(ab|cd)*e", 2),
        ("a{3}b{0,9}", 1),
        (r"\w*\w*\w*\w*x", 5),
        (r"(?:[^,\d]+,)*[^a]x", 3),
        (r"(?=a*b)(?:\Wx+)?", 3),
    ],
)
def test_what_a_search_costs_is_told_from_its_repeats(pattern: str, cost: int) -> None:
    assert cost_of(pattern) == cost


def test_a_pattern_that_costs_much_sees_less_of_a_line() -> None:
    rules = rules_of(".*a.*b")
    assert texts_of(rules, "a" * 498 + "b\n") != []
    assert texts_of(rules, "a" * 500 + "b\n") == []


def test_a_flood_of_messages_is_counted_and_no_other_pattern_suffers() -> None:
    matcher = rules_of("pixel", "later").matcher(["prog"])
    found = matcher.feed(b"bad pixel\n" * (MOST + 7) + b"later\n") + matcher.finish()
    assert [message.line for message in found] == [*range(1, MOST + 1), MOST + 8, 0]
    assert found[-1].text == "7 more lines fit 'pixel': see the log"
    assert found[-1].pattern == found[0].pattern


def test_bytes_that_are_no_text_do_no_harm() -> None:
    matcher = rules_of("error").matcher(["prog"])
    (message,) = matcher.feed(b"\xff\x00error\n")
    assert message.text == "\ufffd\ufffderror"


def test_texts_are_replaced_before_they_are_matched() -> None:
    rules = MessageRules([MessagePattern(1, "error")], replace=[("global", "harmless error", "remark")])
    matcher = rules.matcher(["prog"])
    assert matcher.rewrites
    assert matcher.rewrite(b"a harmless error\n") == b"a remark\n"


def test_a_pattern_that_is_no_regular_expression_is_named() -> None:
    with pytest.raises(UsageError, match=r"message pattern 7: '\(' is no regular expression"):
        MessageRules([MessagePattern(7, "(")])


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"pattern": 5},
        {"pattern": "x", "level": 4},
        {"pattern": "x", "priority": "1"},
        {"pattern": "x", "number_of_lines": -1},
        {"pattern": "x", "only_matched": "N"},
        {"pattern": "x", "colour": "red"},
    ],
)
def test_a_malformed_pattern_is_refused(entry: object) -> None:
    with pytest.raises(UsageError, match="message pattern"):
        MessagePattern.from_dict(entry)


@pytest.mark.parametrize(
    "part", [[], {"patterns": {}}, {"ignore": ["x"]}, {"replace": [{"replace_pattern": "x"}]}, {"ignore": [{}]}]
)
def test_malformed_rules_are_refused(part: object) -> None:
    with pytest.raises(UsageError, match="messages"):
        MessageRules.from_dict(part)


PATTERNS = st.builds(
    MessagePattern,
    st.integers(0, 10**6),
    st.text(max_size=20),
    st.sampled_from([1, 2, 3]),
    st.integers(-5, 5000),
    st.sampled_from(["global", "prog"]),
    st.integers(0, 20),
    st.booleans(),
)


@given(PATTERNS)
def test_a_pattern_comes_back_from_its_dict(pattern: MessagePattern) -> None:
    assert MessagePattern.from_dict(json.loads(json.dumps(pattern.as_dict()))) == pattern


@given(st.text(alphabet="eror\n\r :T", max_size=60), st.lists(st.integers(1, 9), max_size=20))
def test_pieces_of_any_size_give_the_same_messages(text: str, sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    rules = rules_of("err", "o:", number_of_lines=2)
    assert messages_of(rules, *pieces, text[at:]) == messages_of(rules, text)


def test_a_file_of_patterns_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "messages.toml"
    path.write_text('[[patterns]]\nid = 1\npattern = "FATAL"\nlevel = 1\n', encoding="utf-8")
    assert load_patterns(path) == [MessagePattern(1, "FATAL", 1)]
    path.write_text("[[patterns]]\nid = 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"messages\.toml, message pattern 1"):
        load_patterns(path)


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("processCcd FATAL: Failed on dataId={'visit': 903334, 'ccd': 16}: RuntimeError: no stars", 1),
        ("root ERROR: cannot read", 1),
        ("terminate called after throwing an instance of 'lsst::pex::exceptions::RuntimeError'", 1),
        ("sh: 1: processCcd.py: command not found", 1),
        ("OSError: [Errno 28] No space left on device", 1),
        ("NoResults: No locations for get: datasetType:src dataId:DataId(initialdata={}, tag=set())", 1),
        ("makeCoaddTempExp WARN: Warping task unable to find all pixels", 2),
        ("lsst.processCcd.charImage WARN: only 3 stars", 2),
        ("/usr/lib/python3/x.py:12: RuntimeWarning: divide by zero", 3),
        ("processCcd INFO: Processing {'visit': 903334}", None),
        ("processCcd.calibrate.astrometry INFO: Matched and fit WCS; error 0.02 arcsec", None),
    ],
)
def test_lines_of_the_lsst_stack_get_the_level_that_they_deserve(line: str, level: int | None) -> None:
    found = messages_of(MessageRules(default_patterns()), f"{line}\n")
    assert [message.level for message in found] == ([] if level is None else [level])
