"""The results as Markdown: one table per broker, with ratios to the best peer there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

System = dict[str, Any]

_BROKERS = {
    "sqlite": "SQLite",
    "postgresql": "PostgreSQL",
    "rabbitmq": "RabbitMQ",
    "redis": "Redis",
    "memory": "In memory (not durable)",
}


def markdown(results: dict[str, Any]) -> str:
    """The whole report."""
    parts = [_preamble(results)]
    for broker, title in _BROKERS.items():
        if systems := [one for one in results["systems"] if one["broker"] == broker]:
            parts.append(f"## {title}\n\n{_busy_and_idle(systems)}\n\n{_waiting(systems)}\n\n{_notes(systems)}")
    return "\n\n".join(parts) + "\n"


def _preamble(results: dict[str, Any]) -> str:
    machine, options = results["machine"], results["options"]
    servers = "; ".join(f"{name} {said}" for name, said in results["servers"].items()) or "none"
    quick = " **Quick run: the numbers mean nothing.**" if options["quick"] else ""
    return f"""\
# Benchmarks

{results["made"]}, paigeant at {results["commit"]}, {machine["python"]}, {machine["system"]}, \
{machine["cores"]} cores {machine["processor"]}, {machine["memory_gib"]} GiB, \
SQLite files on {machine["filesystem_of_sqlite"]}, load before the run {machine["load_before"]}.
Servers on the same machine: {servers}.{quick}

Work: workflows of three no-op steps with 200 bytes of data, one worker process, {options["workflows"]} workflows
dispatched before it starts, median of {options["rounds"]} rounds taken in turns. In brackets stands the ratio to the
best peer on the same broker: above x1 is better for hops/s, below x1 for everything else. Latency is from the dispatch
in another process to an idle worker until the third step ran, and until the caller had the result."""


def _busy_and_idle(systems: Sequence[System]) -> str:
    columns: list[tuple[str, Callable[[System], float | None], str, bool]] = [
        ("hops/s", _reader("busy", "hops_per_second"), "{:,.0f}", True),
        ("CPU s / 1,000 hops", _reader("busy", "cpu_seconds_per_1000_hops"), "{:.2f}", False),
        ("peak RSS MiB", _reader("busy", "peak_rss_mib"), "{:.0f}", False),
        ("last step p50 ms", _reader("idle", "last_step_ms", "p50"), "{:.1f}", False),
        ("p99", _reader("idle", "last_step_ms", "p99"), "{:.1f}", False),
        ("result p50 ms", _reader("idle", "result_ms", "p50"), "{:.1f}", False),
        ("p99", _reader("idle", "result_ms", "p99"), "{:.1f}", False),
        ("start-up s", _reader("idle", "start_up_seconds"), "{:.2f}", False),
        ("idle CPU %", _reader("idle", "idle_cpu_percent"), "{:.2f}", False),
    ]
    rows = []
    for system in systems:
        cells = [_cell(system, systems, read, form, more) for _, read, form, more in columns]
        rows.append([_name(system), _spread(system), *cells])
    return _table(["system", "hops/s, lowest to highest", *(title for title, *_ in columns)], rows)


def _spread(system: System) -> str:
    """How far the rounds lie apart: what a difference between two systems has to exceed."""
    rounds = system.get("busy", {}).get("rounds")
    return f"{min(rounds):,.0f} to {max(rounds):,.0f}" if rounds else "-"


def _waiting(systems: Sequence[System]) -> str:
    """The I/O case."""
    levels = sorted({one["concurrency"] for system in systems for one in system.get("waiting") or []})
    if not levels:
        return ""
    rows = []
    for system in systems:
        by_level = {one["concurrency"]: one for one in system.get("waiting") or []}
        rows.append([_name(system), *(_waited(by_level.get(level)) for level in levels)])
    titles = [f"waiting steps, concurrency {level}: s (x the ideal)" for level in levels]
    return _table(["system", *titles], rows)


def _waited(value: dict[str, Any] | None) -> str:
    if value is None:
        return "-"
    if value.get("seconds") is None:
        return value.get("reason") or f"{value['completed']} of {value['workflows']} in time"
    return f"{value['seconds']:.2f} (x{value['times_the_ideal']:.2f})"


def _notes(systems: Sequence[System]) -> str:
    """What each promises and how it was set up; or why it was not measured."""
    lines = []
    for system in systems:
        if "guarantee" in system:
            versions = ", ".join(f"{name} {version}" for name, version in system["versions"].items() if version)
            lines.append(f"- **{system['name']}**: {system['guarantee']}. {system['setup']}. {versions}.")
        troubles = system["troubles"]
        lines += [f"- **{system['name']}**, {one['part']}: {one['status']}: {one['reason']}" for one in troubles]
        lines += [f"- **{system['name']}**: {remark}" for remark in _remarks(system)]
    return "\n".join(lines)


def _remarks(system: System) -> Iterable[str]:
    busy = system.get("busy")
    if busy and busy["completed"] < busy["workflows"]:
        done = f"{busy['hops']:,.0f} of {3 * busy['workflows']:,.0f} hops"
        yield f"did {done} before it was stopped; the last of them {busy['seconds']:.0f} s after the first."
    if busy and busy["repeated_steps"]:
        yield f"{busy['repeated_steps']} steps ran more than once."


def _name(system: System) -> str:
    return system["name"] if system["status"] == "measured" else f"{system['name']} ({system['status']})"


def _reader(*path: str) -> Callable[[System], float | None]:
    def read(system: System) -> float | None:
        value: Any = system
        for key in path:
            value = (value or {}).get(key)
        return value

    return read


def _cell(
    system: System, systems: Sequence[System], read: Callable[[System], float | None], form: str, more: bool
) -> str:
    value = read(system)
    if value is None:
        return "-"
    best = best_peer(systems, read, more)
    ratio = f" (x{value / best:.2f})" if best else ""
    return form.format(value) + ratio


def best_peer(systems: Sequence[System], read: Callable[[System], float | None], more: bool) -> float | None:
    """The best value among the peers with a guarantee of the same kind."""
    values = [value for one in systems if one["peer"] and (value := read(one)) is not None]
    if not values:
        return None
    return max(values) if more else min(values)


def publish(output: Path, results: Any, text: str) -> None:
    """Write the results as JSON and the text beside them, and show the text."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    output.with_suffix(".md").write_text(text)
    print(text)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (titles, ruler, *rows))
