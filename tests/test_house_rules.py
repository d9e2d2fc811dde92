"""The rules that matter, as tests."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import wsgi  # noqa: F401
from api.problems import STATUS
from api.route import ROUTES
from engine import cli, errors
from engine.audit import SAYS
from engine.invariants import Invariant
from engine.ledger import FIELDS
from engine.scripts import Scripts, sources
from engine.states import ORDER_STATE, TRANSITIONS, Op, State
from tests.programs import PACKAGES, needs

ROOT = Path(__file__).parents[1]
SCRIPTS = dict(sources())
MARKER = "-- Nothing below this line can refuse."
LOOKS = {path.stem: path.read_text() for path in sorted((ROOT / "lua" / "look").glob("*.lua"))}
"""What an engineer on call reads with. They change nothing, and nothing but people runs them."""

SHARED = re.compile(r"^-- Letter for letter .*?^end\n(?=\n)", re.MULTILINE | re.DOTALL)
META = "local meta = redis.call('HMGET', meta_key, 'gate', 'epoch', 'seq', 'clock_ms'"
CLOCK = """
if meta[1] ~= 'open' then return {'closed'} end
local time = redis.call('TIME')
local now_ms = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(meta[4]))
"""
FULL = "if tonumber(meta[3]) >= tonumber(meta[{}] or math.huge) then return {{'closed'}} end\n"
MORE_META = {
    "commit": ", 'selling_paused')",
    "extend": ", 'full_seq')",
    "reserve": ", 'selling_paused', 'default_hold_ms', 'full_seq')",
}
"""What these read beside it. Those that read full_seq make work for the ledger that can wait, so they stop when too much waits."""

OWN_GATES = {
    "open": "if meta[2] ~= 'closed' or meta[3] ~= token then return {'taken_over'} end",
    "restore": "if meta[1] ~= 'closed' or meta[2] ~= token then return {'taken_over'} end",
    "recall": "if redis.call('HGET', meta_key, 'gate') ~= 'open' then return {'closed'} end",
    "trim": "if meta[1] ~= 'open' or meta[2] ~= epoch then return {'closed'} end",
}
"""Restoring and opening need a gate that the caller has shut; close shuts it, whatever it is. No clock for the others."""

REPLAY = """
local done = fingerprint ~= '' and redis.call('GET', operation_key)
if done then
  local space = string.find(done, ' ', 1, true)
  if string.sub(done, 1, space - 1) ~= fingerprint then return {'idempotency_key_reused'} end
  return {'replayed', unpack(cjson.decode(string.sub(done, space + 1)))}
end
"""
REASON = "if not string.find(reason or '', '%S') then return {'reason_required'} end"
LEVER = "if lever ~= 'do' and lever ~= 'dry_run' then return {'bad_request'} end"
LEVERS = {"configure", "default_hold", "release", "selling"}
"""What operators call. Two of them are the service's own calls, too, which name no lever."""

WHERE = "tonumber(meta[2]), tonumber(meta[3]), "
"""What these say in between: how far the ledger must be in Postgres until the answer is durable."""

SAY_WHERE = {"commit", "note"}

WRITES = (
    r"redis\.call\('(SET|HSET|HSETNX|HDEL|HINCRBY|DEL|ZADD|ZREM|XADD|XDEL|XTRIM|PEXPIRE|EXPIRE|PERSIST|INCR|INCRBY|"
    r"LPUSH|SADD|RENAME|UNLINK|FLUSHALL)'"
)
READS = {
    *(
        "EXISTS",
        "GET",
        "HGET",
        "HGETALL",
        "HLEN",
        "HMGET",
        "INFO",
        "PTTL",
        "TIME",
        "TYPE",
        "XLEN",
        "XRANGE",
        "XREVRANGE",
    ),
    *("ZCARD", "ZCOUNT", "ZRANGE", "ZSCORE"),
}
CART_SCRIPTS = {
    "admit_cart": "guest_carts",
    "bind_cart": "cart",
    "delete_cart": "cart",
    "empty_cart": "cart",
    "put_line": "cart",
    "set_lines": "cart",
}
"""Carts never touch stock, so these need no gate and leave no event. Each has one key of this kind, in no partition."""

SILENT = {"close", "recall", "restore", "trim"}
"""They change nothing that the ledger doesn't have already, so they leave no event either."""

each_script = pytest.mark.parametrize("name", SCRIPTS)
each_look = pytest.mark.parametrize("name", LOOKS)


def header(name: str) -> str:
    return SCRIPTS[name].partition("\n\n")[0]


def code(name: str) -> str:
    return SCRIPTS[name].partition("\n\n")[2]


def statuses_in_header(name: str) -> list[str]:
    returns = header(name).partition("-- Returns, in order of precedence")[2].partition("-- Writes:")[0]
    return re.findall(r"^--   \{'(\w+)'", returns, re.MULTILINE)


@each_script
def test_a_header_names_purpose_keys_arguments_returns_writes_events_and_a_call_by_hand(name: str) -> None:
    text = header(name)
    assert text.startswith(f"-- {name}: ")
    assert all(line.startswith("--") for line in text.splitlines())
    assert re.search(r"^-- Returns, in order of precedence.*:$", text, re.MULTILINE)
    for start in ("-- Writes: ", "-- Emits: ", f"-- By hand: redis-cli --eval lua/{name}.lua "):
        assert len(re.findall(rf"^{re.escape(start)}\S", text, re.MULTILINE)) == 1, start


@each_script
def test_every_key_and_argument_that_a_script_uses_is_in_its_header(name: str) -> None:
    for word in ("KEYS", "ARGV"):
        used = {int(number) for number in re.findall(rf"{word}\[(\d+)\]", code(name))}
        documented = {int(number) for number in re.findall(rf"{word}\[(\d+)\]", header(name))}
        assert used
        assert used <= documented
        assert documented <= set(range(1, max(documented) + 1))


@each_script
def test_a_script_says_once_where_the_writing_starts(name: str) -> None:
    assert SCRIPTS[name].splitlines().count(MARKER) == 1


@each_script
def test_a_script_writes_nothing_before_it_has_checked_everything(name: str) -> None:
    checks, _, _ = code(name).partition(MARKER)
    early = re.findall(WRITES, checks)
    assert early == (["ZREM"] if name == "expire" else [])


def test_the_only_early_write_drops_an_entry_of_deadlines_and_is_documented() -> None:
    assert "only its entry in deadlines is taken out" in header("expire")
    assert (
        "if record[1] ~= 'reserved' then\n  if redis.call('ZREM', deadlines_key, id) == 1 then return {'dropped'} end\n"
        in code("expire")
    )


@each_script
def test_a_script_refuses_nothing_once_it_writes(name: str) -> None:
    _, _, writes = code(name).partition(MARKER)
    allowed = {statuses_in_header(name)[-1]} | ({"refund_required"} if name == "commit" else set())
    assert statuses_returned(writes) <= allowed
    assert not re.search(r"\berror\(|error_reply", SCRIPTS[name])


@each_script
def test_statuses_in_the_header_are_those_returned(name: str) -> None:
    returned = statuses_returned(code(name))
    if name == "configure":
        [both] = re.findall(r"local status = now\.available and '(\w+)' or '(\w+)'", code(name))
        returned |= set(both)
    if name == "note":
        [both] = re.findall(r"local op, status = .*, user and '(\w+)' or '(\w+)'", code(name))
        returned |= set(both)
    assert returned == set(statuses_in_header(name))


def statuses_returned(text: str) -> set[str]:
    answers = [line for line in text.splitlines() if "return {" in line or "answer" in line]
    return {status for line in answers for status in re.findall(r"(?:\{'|'(?=would_))(\w+)'", line)}


@each_script
def test_the_gate_comes_first_and_is_the_same_letter_for_letter(name: str) -> None:
    if name in {*CART_SCRIPTS, "close", *OWN_GATES}:
        return
    before, _, after = code(name).partition("\n\n")
    assert "redis.call" not in before
    assert after.startswith(META)
    first_line, rest = after.split("\n", 1)
    assert f"\n{rest}".startswith(CLOCK)
    assert first_line.removeprefix(META) == MORE_META.get(name, ")")
    more = MORE_META.get(name, "")
    full = FULL.format(5 + more.count(",") - 1)
    assert rest.removeprefix(CLOCK.removeprefix("\n")).startswith(full) == ("full_seq" in more)
    assert statuses_in_header(name)[0] == "closed"


@pytest.mark.parametrize("name", OWN_GATES)
def test_a_script_of_the_recovery_looks_at_the_gate_and_its_key_before_anything_else(name: str) -> None:
    before, gate, _ = code(name).partition(OWN_GATES[name])
    assert gate
    assert len(re.findall(r"redis\.call", before + gate)) == 1
    assert re.findall(r"return \{'(\w+)'", before) == (["layout_unknown"] if name == "open" else [])
    wanted = "open" if "closed" in statuses_in_header(name) else "closed"
    assert f"~= '{wanted}'" in gate


def test_only_a_layout_of_another_version_keeps_the_gate_from_being_shut() -> None:
    assert statuses_in_header("close") == ["layout_unknown", "shut"]
    assert "'gate'" not in code("close").partition(MARKER)[0]


@pytest.mark.parametrize("name", sorted(CART_SCRIPTS))
def test_a_script_without_a_gate_touches_one_key_of_carts_and_no_stock(name: str) -> None:
    kind = CART_SCRIPTS[name]
    assert re.findall(r"KEYS\[(.*?)\]", code(name)) == ["1"]
    assert code(name).startswith(f"local {kind}_key, ")
    assert set(re.findall(r"redis\.call\('\w+', (\w+)", code(name))) == {f"{kind}_key"}
    assert re.search(rf"^-- KEYS\[1\] {kind} ", header(name), re.MULTILINE)
    assert re.search(rf"^-- Writes: {kind}\b.*\n-- Emits: nothing\n", header(name), re.MULTILINE)


@each_script
def test_the_replay_of_an_answer_is_the_same_letter_for_letter(name: str) -> None:
    replay = REPLAY.replace("'replayed', ", f"'replayed', {WHERE}") if name in SAY_WHERE else REPLAY
    assert (replay.strip() in code(name)) == ("operation_key" in code(name))


@each_script
def test_an_operator_s_call_asks_for_a_reason_and_its_dry_run_ends_where_the_writing_starts(name: str) -> None:
    whole, lever = code(name), "lever" in code(name)
    assert lever == (name in LEVERS)
    if not lever:
        return
    operator = "if lever ~= '' and " if name in ("configure", "release") else "if "
    both = "\n".join(line.replace("if ", operator, 1) for line in (REASON, LEVER))
    assert whole.partition("tonumber(meta[4]))\n")[2].startswith(f"{both}\n")
    checks, _, writes = whole.partition(f"\n\n{MARKER}")
    assert re.match(r"if lever == 'dry_run' then return \{.*\} end$", checks.splitlines()[-1])
    assert "dry_run" not in writes
    assert statuses_in_header(name)[:3] == ["closed", "reason_required", "bad_request"]


@each_script
def test_every_event_has_the_same_fields_in_the_same_order(name: str) -> None:
    adds = re.findall(r"redis\.call\('XADD'.*?\)\n", code(name), re.DOTALL)
    assert len(adds) == (0 if name in CART_SCRIPTS or name in SILENT else 1)
    for add in adds:
        positions = [add.find(f"'{each}', ") for each in FIELDS]
        assert -1 not in positions
        assert positions == sorted(positions)
        assert "'counted', '*', " in add, "by which events of layout 2 are told from those before"


@each_look
def test_the_first_line_of_a_look_has_redis_itself_refuse_a_write(name: str) -> None:
    assert LOOKS[name].startswith(f"#!lua flags=no-writes\n-- {name}: ")
    assert not re.search(WRITES, LOOKS[name])
    commands = set(re.findall(r"redis\.p?call\('(\w+)'", LOOKS[name]))
    assert commands <= READS
    assert len(re.findall(r"redis\.p?call\(", LOOKS[name])) == len(re.findall(r"redis\.p?call\('[A-Z]+'", LOOKS[name]))


@each_look
def test_the_header_of_a_look_says_what_it_takes_what_its_lines_mean_and_a_call_by_hand(name: str) -> None:
    head, _, body = LOOKS[name].partition("\n\n")
    assert all(line.startswith("--") for line in head.splitlines()[1:])
    for start in ("-- Lines: ", f"-- By hand: redis-cli --eval lua/look/{name}.lua "):
        assert len(re.findall(rf"^{re.escape(start)}\S", head, re.MULTILINE)) == 1, start
    for word in ("KEYS", "ARGV"):
        documented = re.findall(rf"^-- {word}\[(\d+)\] \w+ ", head, re.MULTILINE)
        assert set(re.findall(rf"{word}\[(\d+)\]", body)) == set(documented)
        assert documented == [str(number + 1) for number in range(len(documented))]
        assert documented or "\n-- ARGV    none\n" in head


@each_look
def test_a_look_is_short_but_for_what_all_of_them_share(name: str) -> None:
    [shared] = SHARED.findall(LOOKS[name])
    assert [shared] == SHARED.findall(next(iter(LOOKS.values())))
    assert len(LOOKS[name].replace(shared, "").splitlines()) <= 80
    code = LOOKS[name].partition("\n\n")[2]
    assert max(len(line) for line in code.splitlines()) <= 140


def test_what_only_people_run_is_no_script_of_the_service() -> None:
    assert not LOOKS.keys() & SCRIPTS.keys()
    assert "#!lua" not in "".join(SCRIPTS.values())


def test_every_script_has_one_method_of_its_name_and_no_other() -> None:
    methods = {name for name, _ in inspect.getmembers(Scripts, inspect.isfunction) if not name.startswith("_")}
    assert methods - set(SCRIPTS) == {"reserve_all", "configure_all"}, "many calls of a script in one round trip"
    assert set(SCRIPTS) <= methods


def test_key_names_are_written_in_one_module_only() -> None:
    writers = {
        path.relative_to(ROOT).as_posix()
        for package in ("engine", "api")
        for path in (ROOT / package).rglob("*.py")
        if "stk:" in path.read_text()
    }
    assert writers == {"engine/keys.py"}


def test_every_key_in_the_key_table_can_be_built_and_the_other_way_round() -> None:
    text = (ROOT / "engine/keys.py").read_text()
    listed = set(re.findall(r"^\| `stk:\{p0\}:(\w+)", text, re.MULTILINE))
    built = set(re.findall(r"\{self\.prefix\}(\w+)", text))
    assert listed == built
    outside = set(re.findall(r"^\| `(stk:\w+)", text, re.MULTILINE))
    assert outside == set(re.findall(r'"(stk:\w+)[:"]', text)) == {"stk:cart", "stk:guest_carts"}


def error_classes(parent: type[errors.EngineError]) -> list[type[errors.EngineError]]:
    return [found for child in parent.__subclasses__() for found in (child, *error_classes(child))]


@pytest.mark.parametrize("error", [errors.EngineError, *error_classes(errors.EngineError)])
def test_every_error_of_the_engine_has_an_http_status(error: type[errors.EngineError]) -> None:
    assert error.code in STATUS


def test_no_two_errors_of_the_engine_share_a_code_but_one_that_is_the_same_to_the_outside() -> None:
    classes = error_classes(errors.EngineError)
    codes = [error.code for error in classes if "code" in vars(error)]
    assert len(codes) == len(set(codes))
    assert {error for error in classes if "code" not in vars(error)} == {errors.LedgerBroken}
    assert issubclass(errors.LedgerBroken, errors.StoreUnavailable)


def test_every_state_has_its_moves_and_its_words() -> None:
    assert set(TRANSITIONS) == set(State)
    assert set().union(*TRANSITIONS.values()) <= set(State)
    assert all(f"`{state}`" in (inspect.getdoc(inspect.getmodule(State)) or "") for state in State)


def test_states_from_which_nothing_follows_but_an_order_are_orders() -> None:
    ends = {state for state, following in TRANSITIONS.items() if not following}
    assert ends <= set(ORDER_STATE)
    assert set(ORDER_STATE) == {State.COMMITTED, *TRANSITIONS[State.COMMITTED]}


REFERENCE = ROOT / "docs" / "reference"


def test_the_reference_has_every_error_code_with_its_status() -> None:
    table = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", (REFERENCE / "errors.md").read_text(), re.MULTILINE)
    assert {code: int(status) for status, code in table} == STATUS


def test_the_runbook_says_what_every_error_code_and_every_key_means_and_how_each_look_is_run() -> None:
    text = (ROOT / "docs" / "RUNBOOK.md").read_text()
    assert sorted(re.findall(r"^#### `(\w+)`$", text, re.MULTILINE)) == sorted(STATUS)
    keys = (ROOT / "engine/keys.py").read_text()
    built = set(re.findall(r"\{self\.prefix\}(\w+)", keys))
    assert built <= set(re.findall(r"^\| `(\w+)[:`]", text, re.MULTILINE))
    outside = set(re.findall(r'"(stk:\w+)[:"]', keys))
    assert outside <= set(re.findall(r"^\| `(stk:\w+)[:`]", text, re.MULTILINE))
    assert set(re.findall(r"^\$ stockade redis-cli --eval lua/look/(\w+)\.lua ", text, re.MULTILINE)) == LOOKS.keys()


def test_the_reference_has_every_variable_of_the_environment() -> None:
    read = set(re.findall(r'"(STOCKADE_[A-Z_]+)"', (ROOT / "engine" / "config.py").read_text()))
    assert (
        set(re.findall(r"^\| `(STOCKADE_[A-Z_]+)` \|", (REFERENCE / "configuration.md").read_text(), re.MULTILINE))
        == read
    )


def test_the_reference_has_every_route_and_every_command() -> None:
    said = (REFERENCE / "http.md").read_text()
    paths = {route.template.partition("?")[0] for route, _ in ROUTES}
    assert {path for path in paths if not re.search(rf"{re.escape(path)}[`?]", said)} == set()
    said = (REFERENCE / "cli.md").read_text()
    assert {name for name in cli.cli.commands if f"`stockade {name}" not in said} == set()


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 140


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / ".github").glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def _anchors(page: Path) -> set[str]:
    """Of headings, as GitHub makes them."""
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in _anchors(target), link


OP_WRITTEN = re.compile(r"'op', ([^,]+),|\bop(?:, \w+)* = ([^,\n]+)|\bemit\((\S+?),")
"""Where a script names an event's op: in the XADD, in the variable that stands there, or in a call of its own function."""


@pytest.mark.parametrize("path", sorted((ROOT / "lua").glob("*.lua")), ids=lambda path: path.stem)
def test_every_op_that_a_script_emits_is_in_the_list_by_which_the_audit_is_filtered(path: Path) -> None:
    text = path.read_text()
    [emits] = re.findall(r"^-- Emits: (.*)", text, re.MULTILINE)
    said = set(re.findall(r"\w+", emits)) & set(Op)
    written = {word for found in OP_WRITTEN.findall(text) for word in re.findall(r"'(\w+)'", "".join(found))}
    assert written <= set(Op)
    assert written <= said
    assert bool(said) == (emits != "nothing")


def test_every_op_can_be_told_as_a_story() -> None:
    assert SAYS.keys() <= set(Op)


NAMED = re.compile(r"\bInvariant\.([A-Z_]+)\b")
JUDGES = sorted(
    path
    for place in ("engine", "loadtests/checker")
    for path in (ROOT / place).rglob("*.py")
    if NAMED.search(path.read_text())
)
ALONE = [path for path in JUDGES if path.stem in ("live", "record", "verify", "snapshots", "noticed")]
"""Judges that need no other."""

BREAKING = [ROOT / "tests" / "unit" / f"test_{name}.py" for name in ("invariants", "told", "order")]
"""Tests that feed what must not be, and see what it is called."""


@pytest.mark.parametrize("invariant", Invariant)
def test_every_invariant_is_looked_after_and_has_a_test_that_breaks_it(invariant: Invariant) -> None:
    assert [path for path in JUDGES if invariant.name in NAMED.findall(path.read_text())]
    assert [path for path in BREAKING if path.exists() and invariant.name in NAMED.findall(path.read_text())]


def test_every_invariant_that_is_named_exists() -> None:
    places = [*JUDGES, *(ROOT / "loadtests").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    named = {name for path in places for name in NAMED.findall(path.read_text())}
    assert named <= set(Invariant.__members__)


def test_the_page_of_invariants_has_every_one_with_its_rule_and_who_checks_it() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", (ROOT / "docs" / "invariants.md").read_text(), re.MULTILINE)
    assert [(name, rule) for name, rule, _ in rows] == [(each.value, each.rule) for each in Invariant]
    for name, _, who in rows:
        checkers = re.findall(r"`(\w+)`", who)
        assert checkers, name
        for checker in checkers:
            # What buyers were told takes several modules, of which `told` and `order` are those that others call.
            told = checker in ("told", "order")
            texts = [path.read_text() for path in JUDGES if path.stem == checker or (told and path not in ALONE)]
            assert Invariant(name).name in NAMED.findall("".join(texts)), (name, checker)


def test_what_an_engineer_on_call_looks_at_has_the_names_of_the_invariants() -> None:
    rules = re.findall(r"^rule\('(\w+)'", LOOKS["invariants"], re.MULTILINE)
    assert rules
    assert set(rules) <= {each.value for each in Invariant}


TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.name != "programs.py"]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_program_that_a_test_runs_is_asked_for_so_that_a_machine_without_it_skips_the_test(path: Path) -> None:
    tree = ast.parse(path.read_text())
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if call.endswith("which")], "programs.needs finds them"
    lists = [node.elts[0] for node in ast.walk(tree) if isinstance(node, ast.List) and node.elts]
    run_by_name = {first.value for first in lists if isinstance(first, ast.Constant)} & PACKAGES.keys()
    # It is also a command of stockade's.
    assert run_by_name <= {"redis-cli"}, "programs.needs gives the path"


def test_the_top_level_is_what_the_owner_wants() -> None:
    wanted = {"engine", "lua", "api", "loadtests", "tests", "setup.cfg", "README.md"}
    tracked = subprocess.run([needs("git"), "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {path.split("/")[0] for path in tracked.splitlines()}
    allowed = {"Makefile", "docs", "CHANGELOG.md", "LICENSE", "pyproject.toml", "constraints.txt"}
    assert wanted <= top
    assert {name for name in top - wanted - allowed if not name.startswith(".")} == set()


def test_every_situation_of_a_payment_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (?!situation)[^-].*$", (ROOT / "docs" / "payments.md").read_text(), re.MULTILINE)
    named = {row: re.findall(r"`(test_\w+)` \|$", row) for row in rows}
    assert [row for row, tests in named.items() if not tests] == []
    written = {
        name
        for path in (
            "tests/unit/test_payments.py",
            "tests/api/test_webhook.py",
            "tests/integration/test_concurrency.py",
            "tests/integration/test_records.py",
        )
        for name in re.findall(r"^def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE)
    }
    assert {name for tests in named.values() for name in tests} - written == set()
    in_unit = re.findall(r"^def (test_\w+)", (ROOT / "tests/unit/test_payments.py").read_text(), re.MULTILINE)
    assert set(in_unit) <= {name for tests in named.values() for name in tests}


def test_every_file_named_in_the_requirements_exists() -> None:
    named = re.findall(r"`((?:tests|docs|engine)/[\w/.]+)`", (ROOT / "docs" / "requirements.md").read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


SECRET = re.compile(r"secret|signature|password|digest|hmac|(?<!gate_)token", re.IGNORECASE)


def compared_secrets(text: str) -> list[str]:
    """Comparisons in a module that take as long as two secrets are alike. To ask whether there is one is none of those."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Compare)
        and any(isinstance(how, ast.Eq | ast.NotEq) for how in node.ops)
        and not any(isinstance(side, ast.Constant) for side in (node.left, *node.comparators))
        and SECRET.search(ast.unparse(node))
    ]


CALLED_BY_OTHERS = {
    "api/gunicorn_config.py": "gunicorn reads them",
    "api/http1.py": "asyncio and httptools call them",
    "api/metrics.py": "prometheus_client calls it",
    "api/schemas.py": "marshmallow calls it",
}


def _public(tree: ast.Module) -> Iterator[str]:
    """Names of functions, classes, methods and values. Those with a decorator are somebody else's to call."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.decorator_list:
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (
                part.name for part in node.body if isinstance(part, ast.FunctionDef) and not part.decorator_list
            )


def test_every_public_name_is_used() -> None:
    texts = {path: path.read_text() for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] in OURS}
    times = Counter(word for text in texts.values() for word in re.findall(r"\w+", text))
    unused = {
        (str(path.relative_to(ROOT)), name)
        for path, text in texts.items()
        if path.relative_to(ROOT).parts[0] in ("engine", "api")
        for name in _public(ast.parse(text))
        if not name.startswith("_") and times[name] == 1
    }
    assert {place for place in unused if place[0] not in CALLED_BY_OTHERS} == set()


STARTED_BY_NAME = {
    "api/gunicorn_config.py": "gunicorn's --config",
    "engine/cli.py": "the command `stockade`",
    "engine/migrations/env.py": "Alembic",
}


def test_every_module_is_imported() -> None:
    paths = [path for part in ("engine", "api") for path in (ROOT / part).rglob("*.py")]
    imported = {name for path in paths for name in _imports(ast.parse(path.read_text()))}
    dead = {str(path.relative_to(ROOT)) for path in paths if path.stem not in imported | {"__init__", "__main__"}}
    assert {path for path in dead if "migrations/versions" not in path} == STARTED_BY_NAME.keys()


def _imports(tree: ast.Module) -> Iterator[str]:
    """Every word of a module's name, and every name that might be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (word for alias in node.names for word in alias.name.split("."))


OURS = ("engine", "api", "loadtests", "tests")


def test_no_secret_is_compared_in_a_way_that_tells_how_much_of_it_was_right() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): compared
        for package in ("api", "engine")
        for path in (ROOT / package).rglob("*.py")
        if (compared := compared_secrets(path.read_text()))
    }
    assert found == {}


def test_a_comparison_of_secrets_is_seen() -> None:
    for text in ("given == settings.jwt_secret", "if signature != expected: pass", "ok = hmac.digest(a, b, c) == x"):
        assert compared_secrets(text)
    for text in ("token == ''", "compare_digest(signature, expected)", "a == b"):
        assert not compared_secrets(text)


def test_every_test_that_the_security_page_names_exists() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    paths = re.findall(r"`(tests/[\w/]+\.py)`", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert set(re.findall(r"`(test_\w+)`", text)) - written == set()
