"""The command line. Only this module and `progress` print, only this one exits; heavy imports wait inside commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gibench import __version__
from gibench.arguments import named, results_of, store_of, suite_of, where_of
from gibench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gibench.store import Results, Store

app = typer.Typer(
    name="gibench",
    help="Which defense keeps images out of the gradients that federated learning shares, and what does it cost?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Settings = Annotated[
    list[str], typer.Argument(help="suite=NAME and any key=value of the suite, out=, workers=, device=")
]
Where = Annotated[list[str] | None, typer.Argument(help="suite=NAME or out=DIR; without either, the run made last")]
Format = Annotated[str, typer.Option("--format", "-f", help="terminal, markdown, csv, json, latex or html")]


@app.command()
def run(
    settings: Settings,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would run, like `gibench plan`")] = False,
) -> None:
    """Train the clients and run the attacks of a suite; what is done already stays."""
    if dry_run:
        plan(settings)
        return
    from gibench import progress
    from gibench.runner import run as run_suite

    suite, options = suite_of(settings)
    store = store_of(suite.name, options)
    with progress.shown(str(store.out)) as watch:
        summary = run_suite(
            suite,
            store.out,
            workers=options.get("workers"),
            device=options.get("device", "auto"),
            on_plan=watch.planned,
            on_event=watch.heard,
        )
    store.remember()
    watch.ended(summary, f"gibench report {named(suite.name, options)}")
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def plan(settings: Settings) -> None:
    """Show a suite's grid: what would run, what is done, what is skipped and why, and how long it would take."""
    from gibench import screens
    from gibench.runner import make_plan

    suite, options = suite_of(settings)
    store = store_of(suite.name, options)
    folders = {store.out, *Path("runs").glob("*"), *Path("results").glob("*")}
    screens.print_plan(make_plan(suite, store), sorted(folders), str(store.out))


@app.command()
def report(
    where: Where = None,
    form: Format = "terminal",
    by: Annotated[str, typer.Option("--by", help="a line per defense or per attack")] = "defense",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write to this file instead")] = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="the sources of what the report shows instead")] = False,
    figures: Annotated[Path | None, typer.Option("--figures", help="draw figures into this folder instead")] = None,
    kind: Annotated[str, typer.Option("--figure-format", help="svg, png or pdf")] = "svg",
) -> None:
    """Print the leaderboard of a run: how well each defense protects, or how strong each attack is."""
    from rich.console import Console

    from gibench.report import PRINTERS, renderer

    render = renderer(form, by)
    store = results_of(where)
    if figures is not None:
        _draw(store, figures, kind)
        return
    results = store.read()
    if bibtex or form == "html":
        render = _knowing(store, by, bibtex)
    if output is not None:
        _write(output, render(results).encode())
    elif form == "terminal" and not bibtex and sys.stdout.isatty():
        PRINTERS[by](results, Console())
    else:
        typer.echo(render(results).rstrip("\n"))


@app.command()
def pack(
    settings: Where = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="the folder to keep them in; results/ and the run's own name by default"),
    ] = None,
    planned: Annotated[bool, typer.Option("--planned", help="leave out what its suite does not plan any more")] = False,
) -> None:
    """Join the results of a run into a few files that are small enough to keep; a later run goes on from there."""
    from gibench import packing
    from gibench.report.gallery import exhibits
    from gibench.report.tables import report
    from gibench.store import Store

    store = results_of(settings)
    kept = Store(into or Path("results") / store.out.name)
    packing.pack(store, kept, planned)
    results = kept.read()
    packing.keep_pictures(store, kept, exhibits(results, report(results)))
    size = sum(path.stat().st_size for path in kept.out.iterdir() if path.is_file())
    counts = [(kind, len(kept.finished(kind))) for kind in ("cells", "clients", "audits")]
    told = " and ".join(f"{count} {kind}" for kind, count in counts if count or kind != "audits")
    typer.echo(f"{kept.out}: {told} in {size / 2**20:.1f} MiB")


@app.command("list")
def list_entries(
    kind: Annotated[str, typer.Argument(help="datasets, models, defenses, attacks, metrics, audits or suites")],
    form: Annotated[str, typer.Option("--format", "-f", help="terminal or json")] = "terminal",
) -> None:
    """List what there is, with meaning, settings, source and needs."""
    import json

    from gibench import screens
    from gibench.errors import suggest
    from gibench.listing import KINDS, listing

    if kind not in KINDS:
        raise suggest("kind", kind, KINDS)
    if form not in ("terminal", "json"):
        raise suggest("list format", form, ["terminal", "json"])
    entries = listing(kind)
    if form == "json":
        typer.echo(json.dumps(entries, indent=1))
    else:
        screens.print_listing(kind, entries)


@app.command()
def show(
    cell: Annotated[str, typer.Argument(help="a cell's id or the beginning of one")],
    where: Where = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="where the picture goes")] = None,
) -> None:
    """Show one cell: settings, origin, numbers, and a picture of what the attacker got."""
    from gibench import screens
    from gibench.report.picture import picture

    store = results_of(where)
    name = store.find_cell(cell)
    rows = store.cell_rows(name)
    screens.print_cell(rows, store.provenance("cells", name))
    images = store.read_images(name)
    if images:
        if "places" in images:  # few of its images are kept
            rows = rows.set_index(["victim", "image"]).loc[[tuple(place) for place in images["places"].tolist()]]
        first = rows.iloc[0]
        title = (
            f"{first.attack} on {first.dataset}, {first.model}, {first.defense}, {first.checkpoint}, seed {first.seed}"
        )
        captions = {"transmitted": rows.psnr_change.to_numpy(), "reconstructions": rows.psnr.to_numpy()}
        target = output or store.out / "pictures" / f"{name}.png"
        _write(target, picture(images, title, captions))
        typer.echo(f"picture: {target}")


@app.command()
def check(
    where: Annotated[list[str], typer.Argument(help="suite=NAME, and out=DIR where the results lie elsewhere")],
    accept: Annotated[bool, typer.Option("--accept", help="expect from now on what the results say")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="accept without asking")] = False,
) -> None:
    """Compare a run with what is expected of its suite (NAME.expected.toml beside it); exit code 1 if it moved."""
    from rich.console import Console

    from gibench import check as checking
    from gibench.expectations import as_toml, read_expectations
    from gibench.outdated import outdated
    from gibench.suite import load_suite
    from gibench.suite_files import expectations_beside, find_suite

    given = where_of(where)
    if "suite" not in given:
        raise InputError("no suite is named; write suite=NAME, whose expectations the results are held against")
    if yes and not accept:
        raise InputError("--yes answers what --accept asks; give both")
    if accept and not yes and not sys.stdin.isatty():
        raise InputError("--accept asks before it writes; where nobody can answer, add --yes")
    path, store = expectations_beside(find_suite(given["suite"])), results_of(where)
    expected = read_expectations(path) if path.exists() or not accept else None
    console = Console() if sys.stdout.isatty() else Console(width=100)
    also = outdated(load_suite(given["suite"]), store)
    if accept:
        new = checking.accepted(store, expected, also)
        if expected is not None:
            checking.print_changes(checking.check(store, expected, also), console)
        if not yes and not typer.confirm(f"write {len(new.numbers)} numbers to {path}?"):
            raise typer.Exit(1)
        _write(path, as_toml(new).encode())
        typer.echo(f"accepted: {len(new.numbers)} numbers of {new.cells} cells in {path}")
        return
    assert expected is not None
    outcome = checking.check(store, expected, also)
    checking.print_changes(outcome, console)
    typer.echo(f"{'as expected' if outcome.passed else 'NOT as expected'}: {path}")
    if not outcome.passed:
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        typer.echo(f"gibench {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, Ctrl-C says how to go on."""
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        typer.echo(f"gibench: {error}", err=True)
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's own: unknown option, missing argument
            raise
        typer.echo(f"gibench: {error.format_message()} (see gibench --help)", err=True)
        code = 2
    if code == 130:  # what Ctrl-C becomes
        typer.echo("gibench: stopped; what is finished is kept, the same command goes on from there", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _knowing(store: Store, by: str, bibtex: bool) -> Callable[[Results], str]:
    """The reports that need more than the results: what entries there are, and what single cells say."""
    from gibench.listing import known
    from gibench.report import as_bibtex, as_html

    entries = known()
    if bibtex:
        citations = {kind: {name: e["citation"] for name, e in named.items()} for kind, named in entries.items()}
        return lambda results: as_bibtex(results, citations)
    return lambda results: as_html(results, store, entries, by)


def _draw(store: Store, folder: Path, kind: str) -> None:
    from gibench.report.figures import check_kind, figures

    check_kind(kind)
    for name, content in figures(store.read(), kind, store.read_images).items():
        _write(folder / name, content)
        typer.echo(f"figure: {folder / name}")


def _write(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from None
