"""The commands beside `up`: most run in this process, on the session's service; some for real."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import click
import jwt
import pytest
from click.testing import CliRunner

from engine import cli
from tests.command.running import Command, one_line
from tests.command.service import Service, fails_in_one_line, stockade

HEADER = "sku,on_hand,name,limit_per_customer\n"


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", list(commands(cli.cli)), ids=lambda words: " ".join(words) or "stockade")
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.cli, [*words, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")
    assert len(result.output.splitlines()) >= 4


def test_every_command_of_the_contract_that_is_built_is_there() -> None:
    wanted = {"up", "api", "keeper", "token", "stock", "stock load", "stock show", "verify", "redis-cli"}
    wanted |= {"snapshot", "restore", "explain", "pause", "resume", "release", "recount", "default-hold"}
    wanted |= {"doctor", "migrate", "known-as", "repair"}
    assert wanted <= {" ".join(words) for words in commands(cli.cli)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["up", "--nothing"],
        ["up", "--port", "65536"],
        ["up", "--port", "x"],
        ["up", "--workers", "0"],
        ["api", "--port", "0"],
        ["token", "--sub", "ann"],
        ["token", "--scope", "customer"],
        ["token", "--sub", "ann", "--scope", "customer", "--ttl", "0"],
        ["verify", "--acknowledge", " "],
        ["repair", "--accept", ""],
        ["repair", "--force"],
        ["repair", "--force", "--dry-run", "--accept", "a reason"],
        ["stock", "nothing"],
        ["stock", "load"],
        ["stock", "show", "--nothing"],
        ["verify", "more"],
        ["verify", "--pause"],
        ["snapshot", "more"],
        ["restore", "more"],
        ["explain"],
        ["explain", "one", "two"],
        ["pause"],
        ["resume", "tee"],
        ["pause", "--reason", " "],
        ["pause", "--reason", "two\nlines"],
        ["pause", "--reason", "x" * 256],
        ["release", "--reason", "x"],
        ["release", "r1", "--user", "ann", "--reason", "x"],
        ["release", "r1", "--sku", "tee", "--reason", "x"],
        ["recount", "tee", "--reason", "x"],
        ["recount", "tee", "five", "--reason", "x"],
        ["recount", "tee", "-1", "--reason", "x"],
        ["recount", "tee", "1000000001", "--reason", "x"],
        ["default-hold", "--reason", "x"],
        ["default-hold", "60", "--clear", "--reason", "x"],
        ["default-hold", "soon", "--reason", "x"],
        ["default-hold", "60"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_line_and_exit_2(run: Command, arguments: list[str]) -> None:
    one_line(run(*arguments), 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["stock", "show"],
        ["verify"],
        ["snapshot"],
        ["restore"],
        ["restore", "--dry-run"],
        ["explain", "tee"],
        ["redis-cli", "ping"],
        ["keeper"],
        ["pause", "--reason", "x"],
        ["release", "--user", "ann", "--reason", "x"],
    ],
    ids=" ".join,
)
def test_without_a_service_a_command_says_what_to_do(run: Command, tmp_path: Path, arguments: list[str]) -> None:
    line = one_line(run(*arguments, "--data-dir", tmp_path))
    assert "No service runs on" in line
    assert "stockade up" in line


@pytest.mark.parametrize(
    "arguments", [["stock", "show"], ["stock", "show", "tee"], ["pause", "tee", "--reason", "x"]], ids=" ".join
)
def test_a_redis_that_does_not_answer_is_one_line(run: Command, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "redis.url").write_text("unix:///nowhere/redis.sock\n")
    assert "Redis can't answer" in one_line(run(*arguments, "--data-dir", tmp_path))


@pytest.mark.parametrize(
    "arguments", [["verify"], ["snapshot"], ["restore"], ["restore", "--dry-run"], ["explain", "tee"]], ids=" ".join
)
def test_a_redis_or_a_postgres_that_does_not_answer_is_one_line(
    run: Command, tmp_path: Path, with_schema: str, arguments: list[str]
) -> None:
    (tmp_path / "redis.url").write_text("unix:///nowhere/redis.sock\n")
    assert "STOCKADE_DATABASE_URL must be set" in one_line(run(*arguments, "--data-dir", tmp_path))
    (tmp_path / "postgres.url").write_text("postgresql://nobody@/stock?host=/nowhere\n")
    assert "Postgres can't answer" in one_line(run(*arguments, "--data-dir", tmp_path))
    (tmp_path / "postgres.url").write_text(f"{with_schema}\n")
    assert "Redis can't answer" in one_line(run(*arguments, "--data-dir", tmp_path))


def test_errors_of_a_real_process_are_one_line_too(tmp_path: Path) -> None:
    assert "nothing" in fails_in_one_line(stockade("nothing"), 2)
    assert "No service runs on" in fails_in_one_line(stockade("stock", "show", "--data-dir", tmp_path))


def test_a_token_opens_the_api_for_as_long_as_was_asked(service: Service, run: Command) -> None:
    made = run("token", "--sub", "Olga O.", "--scope", "ops customer", "--ttl", 120, "--data-dir", service.data_dir)
    assert (made.code, made.err, made.out.count("\n")) == (0, "", 1)
    token = made.out.strip()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == "Olga O."
    assert claims["scope"] == "ops customer"
    assert 100 < claims["exp"] - time.time() <= 120
    assert service.call("GET", "/v1/selling", token=token).status == 200


def test_a_token_needs_a_secret(run: Command, tmp_path: Path) -> None:
    assert "STOCKADE_JWT_SECRET" in one_line(run("token", "--sub", "a", "--scope", "ops", "--data-dir", tmp_path))


def test_stock_is_loaded_shown_and_recounted(service: Service, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "stock.csv"
    where = ("--data-dir", service.data_dir)
    file.write_text(HEADER + 'load-1,5,"Größe, M",2\nload-2,1000000000,,\n', encoding="utf-8-sig")
    loaded = run("stock", "load", file, *where)
    assert (loaded.code, loaded.out) == (0, "2 SKUs new, 0 changed, 0 refused\n")
    ops = service.token("o", "ops")
    shown = service.call("GET", "/v1/skus/load-1", token=ops).document
    assert (shown["name"], shown["limit_per_customer"], shown["available"]) == ("Größe, M", 2, 5)
    file.write_text("sku,on_hand\nload-1,7\nload-3,0\n")
    loaded = run("stock", "load", file, "--json", *where)
    assert json.loads(loaded.out) == {"new": 1, "changed": 1, "refused": []}
    shown = service.call("GET", "/v1/skus/load-1", token=ops).document
    assert (shown["name"], shown["limit_per_customer"], shown["available"]) == ("Größe, M", 2, 7)
    file.write_text("sku,on_hand,limit_per_customer,name\nload-1,7,,\n")
    assert run("stock", "load", file, *where).code == 0
    shown = service.call("GET", "/v1/skus/load-1", token=ops).document
    assert (shown["name"], shown["limit_per_customer"]) == ("Größe, M", 2)
    file.write_text("sku,on_hand,limit_per_customer,name\nload-1,7,none,none\n")
    assert run("stock", "load", file, *where).code == 0
    shown = service.call("GET", "/v1/skus/load-1", token=ops).document
    assert (shown["name"], shown["limit_per_customer"]) == (None, None)

    table = run("stock", "show", "load-1", "load-2", *where)
    assert [line.split() for line in table.out.splitlines()] == [
        ["SKU", "on_hand", "available", "reserved", "allocated"],
        ["load-1", "7", "7", "0", "0"],
        ["load-2", "1000000000", "1000000000", "0", "0"],
    ]
    everything = json.loads(run("stock", "show", "--json", *where).out)
    assert {"load-1", "load-2", "load-3"} <= {sku["sku"] for sku in everything}
    (one,) = json.loads(run("stock", "show", "--json", "load-3", *where).out)
    assert (one["sku"], one["on_hand"], one["paused"]) == ("load-3", 0, False)
    assert "No SKU is called load-9." in one_line(run("stock", "show", "load-1", "load-9", *where))


def test_a_recount_below_the_claims_is_refused_and_the_other_lines_are_loaded(
    service: Service, run: Command, tmp_path: Path
) -> None:
    file = tmp_path / "stock.csv"
    where = ("--data-dir", service.data_dir)
    file.write_text("sku,on_hand\nclaimed-1,5\n")
    assert run("stock", "load", file, *where).code == 0
    body = {"lines": [{"sku": "claimed-1", "quantity": 3}]}
    assert service.call("POST", "/v1/reservations", body, token=service.token("ann", "customer")).status == 201
    file.write_text("sku,on_hand\nclaimed-1,2\nclaimed-2,9\n")
    loaded = run("stock", "load", file, "--json", *where)
    report = json.loads(loaded.out)
    assert (loaded.code, report["new"], report["changed"]) == (1, 1, 0)
    assert [(row["line"], row["sku"], row["code"]) for row in report["refused"]] == [
        (2, "claimed-1", "stock_below_claims")
    ]
    assert loaded.err.count("\n") == 1
    assert "line 2: claimed-1: " in loaded.err


BAD_FILES: dict[str, bytes] = {
    "empty": b"",
    "no header": b"bad-1,5\n",
    "wrong header": b"sku,quantity\nbad-1,5\n",
    "header in another order": b"on_hand,sku\n5,bad-1\n",
    "unknown column": b"sku,on_hand,price\nbad-1,5,9\n",
    "a column twice": b"sku,on_hand,name,name\nbad-1,5,x,y\n",
    "too few columns": b"sku,on_hand\nbad-1,5\nbad-2\n",
    "too many columns": b"sku,on_hand\nbad-1,5\nbad-2,5,6\n",
    "no sku": b"sku,on_hand\nbad-1,5\n,5\n",
    "a bad sku": b"sku,on_hand\nbad-1,5\nbad  2,5\n",
    "a long sku": b"sku,on_hand\nbad-1,5\n" + b"x" * 129 + b",5\n",
    "a bad sku and a bad number": b"sku,on_hand\nbad-1,5\nbad  2,x\n",
    "no on_hand": b"sku,on_hand\nbad-1,5\nbad-2,\n",
    "negative": b"sku,on_hand\nbad-1,5\nbad-2,-1\n",
    "a fraction": b"sku,on_hand\nbad-1,5\nbad-2,1.0\n",
    "an exponent": b"sku,on_hand\nbad-1,5\nbad-2,1e3\n",
    "a thousands sign": b'sku,on_hand\nbad-1,5\nbad-2,"1,000"\n',
    "an underscore": b"sku,on_hand\nbad-1,5\nbad-2,1_0\n",
    "other digits": "sku,on_hand\nbad-1,5\nbad-2,٣\n".encode(),
    "too many units": b"sku,on_hand\nbad-1,5\nbad-2,1000000001\n",
    "a huge number": b"sku,on_hand\nbad-1,5\nbad-2," + b"9" * 5_000 + b"\n",
    "a sku twice": b"sku,on_hand\nbad-1,5\nbad-1,5\n",
    "a bad limit": HEADER.encode() + b"bad-1,5,,\nbad-2,5,,0\n",
    "a long name": HEADER.encode() + b"bad-1,5,,\nbad-2,5," + b"x" * 256 + b",\n",
    "a control character": HEADER.encode() + b"bad-1,5,,\nbad-2,5,a\x07b,\n",
    "an open quote": b'sku,on_hand\nbad-1,5\n"bad-2,5\n',
    "text after a quote": b'sku,on_hand\nbad-1,5\n"bad-2"x,5\n',
    "not UTF-8": b"sku,on_hand,name\nbad-1,5,\nbad-2,5,\xff\n",
    "UTF-16": "sku,on_hand\nbad-1,5\n".encode("utf-16"),
    "a NUL": b"sku,on_hand\nbad-1,5\nbad-2,\x005\n",
    "semicolons": b"sku;on_hand\nbad-1;5\n",
    "a huge field": b"sku,on_hand,name\nbad-1,5,\nbad-2,5," + b"x" * 200_000 + b"\n",
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_one_line_and_changes_nothing(
    service: Service, run: Command, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "stock.csv"
    file.write_bytes(content)
    assert str(file) in one_line(run("stock", "load", file, "--data-dir", service.data_dir))
    for sku in ("bad-1", "bad-2"):
        assert service.call("GET", f"/v1/availability/{sku}").status == 404


def test_a_file_that_is_not_there_is_one_line(run: Command, tmp_path: Path) -> None:
    assert "No such file" in one_line(run("stock", "load", tmp_path / "nothing.csv", "--data-dir", tmp_path))
    assert "directory" in one_line(run("stock", "load", tmp_path, "--data-dir", tmp_path))


def test_a_file_with_just_a_header_loads_nothing(service: Service, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "stock.csv"
    file.write_text("sku,on_hand\n")
    loaded = run("stock", "load", file, "--data-dir", service.data_dir)
    assert (loaded.code, loaded.out) == (0, "0 SKUs new, 0 changed, 0 refused\n")


def test_verify_finds_what_was_tampered_with_and_names_it(service: Service, run: Command) -> None:
    where = ("--data-dir", service.data_dir)
    ops = service.token("o", "ops")
    service.call("PUT", "/v1/skus/tampered", {"on_hand": 5}, token=ops)
    good = run("verify", *where)
    assert good.code == 0, good
    assert re.fullmatch(
        r"\d+ SKUs, \d+ live reservations, \d+ open orders, \d+ ledger events, snapshot (none|\d+-\d+): 0 problems\n",
        good.out,
    )
    report = json.loads(run("verify", "--json", *where).out)
    assert set(report) == {"skus", "live", "orders", "events", "snapshot", "problems", "acknowledged"}
    assert report["problems"] == []
    assert report["skus"] >= 1
    key = "stk:{p0}:sku:tampered"
    assert stockade("redis-cli", *where, "HINCRBY", key, "available", "1").stdout == "6\n"
    bad = run("verify", *where)
    assert bad.code == 1
    assert "conservation: SKU tampered has on_hand 5" in bad.out
    bad = run("verify", "--json", *where)
    assert bad.code == 1
    named = json.loads(bad.out)["problems"]
    assert [problem.partition(":")[0] for problem in named] == ["conservation", "fold"]
    assert "SKU tampered has available 6, the ledger says 5" in named[1]
    assert stockade("redis-cli", *where, "HINCRBY", key, "available", "-1").stdout == "5\n"
    assert run("verify", *where).code == 0
