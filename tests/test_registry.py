"""Specs, sweeps and the mistakes that users make in them; and what every registered entry must bring along."""

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibench.errors import InputError
from gibench.registry import KINDS, build, entry_class, expand, fields_of, names, parse

EVERY = [(kind, name) for kind in KINDS for name in names(kind)]
REQUIRED = {
    "datasets": {"digits", "ihc", "medmnist", "pneumoniamnist", "cifar10", "mnist", "fashion_mnist"},
    "models": {"lenet", "convnet", "resnet18", "mlp"},
    "defenses": {
        "none",
        "latent_perturb",
        "mixup",
        "instahide",
        "ats",
        "obfuscate",
        "label_flip",
        "dcs",
        "soteria",
        "precode",
        "dropout",
        "weight_noise",
        "noise",
        "clip",
        "dpsgd",
        "prune",
        "quantize",
        "dgp",
        "outpost",
        "censor",
        "graddefense",
        "svd_truncate",
        "local_steps",
        "secagg",
        "salm",
        "he",
        "partial_share",
        "random_subset",
    },
    "attacks": {
        "prior_only",
        "analytic_fc",
        "dlg",
        "idlg",
        "inverting_gradients",
        "adaptive_matching",
        "gradinversion",
        "lti",
        "fedavg_matching",
        "auto",
        "cpl",
        "bn_matching",
        "spear",
        "vae_prior",
        "gan_prior",
        "rog",
        "partial_match",
        "imprint",
        "trap_weights",
        "fishing",
        "inverse_network",
        "rgap",
        "cocktail_party",
        "label_inference",
        "denoised_matching",
    },
    "metrics": {"mse", "psnr", "ssim"},
    "audits": {"mesas", "fairness", "contract", "attribute_inference", "encrypted_inference"},
}
positive = st.floats(1e-12, 1e12)
unit = st.floats(0, 1, exclude_max=True)


def message(kind: str, spec: str) -> str:
    with pytest.raises(InputError) as caught:
        build(kind, spec)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", KINDS)
def test_what_should_be_there_is_and_parts_are_not_entries(kind: str) -> None:
    assert set(names(kind)) >= REQUIRED[kind]
    assert not set(names(kind)) & {"engine", "labels", "files", "idx", "parts", "medmnist_files", "poison"}
    assert names(kind) == sorted(names(kind))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_entry_states_what_it_is_and_where_it_comes_from(kind: str, name: str) -> None:
    cls = entry_class(kind, name)
    assert 20 < len(cls.summary()) < 140
    assert cls.version >= 1
    if kind != "metrics":
        assert cls.citation.strip()
    if kind == "datasets":
        assert cls.licence.strip()
    assert [f["name"] for f in fields_of(kind, name)] == list(build(kind, name).settings())


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_default_entry_is_rebuilt_from_its_spec(kind: str, name: str) -> None:
    entry = build(kind, name)
    assert build(kind, entry.spec()) == entry
    assert build(kind, str(entry)).identity() == entry.identity()
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.version = 2


@given(
    sigma=st.floats(0, 1e12),
    clip=positive,
    delta=st.none() | st.floats(1e-300, 0.999),
    book=st.sampled_from(["rdp", "prv"]),
)
def test_dpsgd_round_trips(sigma: float, clip: float, delta: float | None, book: str) -> None:
    given = entry_class("defenses", "dpsgd")(sigma=sigma, clip=clip, delta=delta, accountant=book)
    assert build("defenses", given.spec()) == given


@given(
    p=unit,
    kind=st.sampled_from(["budget", "bottleneck", "code"]),
    rho=positive,
    latent=st.integers(1, 64),
    fresh=unit,
    cap=positive,
    adversaries=st.sampled_from([("conv",), ("mlp", "conv")]),
)
def test_other_defenses_round_trip(p: float, **fields: object) -> None:
    for entry in (
        entry_class("defenses", "prune")(p=p),
        entry_class("defenses", "latent_perturb")(**fields),
    ):
        assert build("defenses", entry.spec()) == entry


@given(tv=positive, steps=st.integers(1, 10**9), sign=st.booleans(), schedule=st.sampled_from(["cosine", "step"]))
def test_attacks_round_trip(tv: float, steps: int, sign: bool, schedule: str) -> None:
    for name in ("inverting_gradients", "adaptive_matching"):
        given = entry_class("attacks", name)(tv=tv, steps=steps, sign=sign, schedule=schedule)
        assert build("attacks", given.spec()) == given


def test_a_spec_shows_the_knob_and_what_differs() -> None:
    assert build("defenses", "prune").spec() == "prune(p=0.9)"
    assert build("defenses", "dpsgd( sigma = 1.0, clip = 1.0 )").spec() == "dpsgd(sigma=1.0)"
    assert build("defenses", "dpsgd(clip=2, sigma=0)").spec() == "dpsgd(sigma=0.0, clip=2.0)"
    assert (
        build("defenses", 'latent_perturb(kind="bottleneck")').spec() == 'latent_perturb(kind="bottleneck", beta=0.001)'
    )
    assert build("defenses", "none").spec() == "none"
    assert build("attacks", "inverting_gradients(sign=false)").spec() == "inverting_gradients(sign=false)"


def test_a_setting_that_came_later_leaves_earlier_results_their_names() -> None:
    code = build("defenses", 'latent_perturb(kind="code")')
    even = build("defenses", 'latent_perturb(kind="code", contrast=true)')
    assert code.later == {"contrast"}
    assert even.identity() == {"name": "latent_perturb", "version": 3, **even.settings()}
    assert code.identity() == {name: value for name, value in even.identity().items() if name != "contrast"}


def test_settings_and_identity_have_every_default() -> None:
    entry = build("defenses", "dpsgd(sigma=0.5)")
    assert entry.settings() == {"sigma": 0.5, "clip": 1.0, "delta": None, "accountant": "rdp"}
    assert entry.identity() == {"name": "dpsgd", "version": 1, **entry.settings()}
    assert "state" not in entry.settings()


def test_lists_are_sweeps_in_the_order_written() -> None:
    assert [e.p for e in expand("defenses", "prune(p=[0.99, 0.5, 0.9])")] == [0.99, 0.5, 0.9]
    grid = expand("defenses", "dpsgd(clip=[2.0, 1.0], sigma=[0.1, 3])")
    assert [(e.clip, e.sigma) for e in grid] == [(2.0, 0.1), (2.0, 3.0), (1.0, 0.1), (1.0, 3.0)]
    assert expand("defenses", "prune(p=[0.5])") == [build("defenses", "prune(p=0.5)")]
    assert [e.flag for e in expand("datasets", 'medmnist(flag=["breastmnist", "pneumoniamnist"])')] == [
        "breastmnist",
        "pneumoniamnist",
    ]


def test_a_sweep_is_not_one_entry_and_an_empty_one_is_none() -> None:
    assert "2 defenses" in message("defenses", "prune(p=[0.5, 0.9])")
    with pytest.raises(InputError, match="sweep over 'p' is empty"):
        expand("defenses", "prune(p=[])")


def test_short_names_are_presets_of_one_entry() -> None:
    assert build("datasets", "pneumoniamnist") == build("datasets", 'medmnist(flag="pneumoniamnist")')
    assert build("datasets", "pneumoniamnist") != build("datasets", "breastmnist")


@pytest.mark.parametrize(
    ("kind", "spec", "told"),
    [
        ("defenses", "prun", ["unknown defense 'prun'", "did you mean 'prune'?", "latent_perturb, "]),
        ("attacks", "inverting_gradient", ["unknown attack", "did you mean 'inverting_gradients'?"]),
        ("datasets", "xyzzy", ["unknown dataset 'xyzzy'; allowed: "]),
        ("defenses", "prune(q=0.5)", ["prune has no field 'q'", "its fields are: p"]),
        ("defenses", "dpsgd(sigm=0.5)", ["did you mean 'sigma'?", "sigma, clip, delta, accountant"]),
        ("defenses", "dpsgd(state=1)", ["no field 'state'"]),
        ("defenses", "none(p=1)", ["none has no field 'p'", "its fields are: none"]),
        ("defenses", "dpsgd(sigma=-1)", ["sigma", "greater than or equal to 0", "-1"]),
        ("defenses", "dpsgd(sigma=inf)", ["sigma", "finite"]),
        ("defenses", "dpsgd(sigma=nan)", ["sigma", "nan"]),
        ("defenses", "dpsgd(clip=0)", ["clip", "greater than 0"]),
        ("defenses", "dpsgd(clip=nan)", ["clip"]),
        ("defenses", 'dpsgd(accountant="gdp")', ["accountant", "'rdp' or 'prv'"]),
        ("defenses", "prune(p=1.5)", ["p:", "less than 1", "1.5"]),
        ("defenses", "prune(p=1.0)", ["p:", "less than 1"]),
        ("defenses", "prune(p=nan)", ["p:"]),
        ("defenses", 'prune(p="much")', ["p:", "number", "'much'"]),
        ("defenses", "prune(p={a=1})", ["p:", "number"]),
        ("defenses", "prune(p=[0.5, 2])", ["p:", "less than 1"]),
        ("attacks", "inverting_gradients(steps=0)", ["steps", "greater than or equal to 1"]),
        ("attacks", "inverting_gradients(steps=1.5)", ["steps", "integer"]),
        ("attacks", 'inverting_gradients(schedule="linear")', ["schedule"]),
        ("models", "convnet(width=12)", ["width", "multiple of 8"]),
        ("models", "lenet(convs=4)", ["convs"]),
        ("datasets", 'medmnist(flag="pneumoniamnis")', ["pneumoniamnist"]),
    ],
)
def test_mistakes_are_told_in_one_line(kind: str, spec: str, told: list[str]) -> None:
    text = message(kind, spec)
    for part in told:
        assert part in text


@pytest.mark.parametrize(
    "spec",
    ["", " ", "prune(", "prune)", "prune(p=0.5", "prune(0.5)", "prune(p=)", "prune(p=0.5))", "1prune", "a-b",
     "prune p=0.5", "prune(p=1/2)", "prune(p=__import__('os'))", "prune(p=0.5, p=0.6)", "prune(p=0.5);none",
     "prune(p=0.5 } #"],
)  # fmt: skip
def test_what_is_not_a_spec_is_refused(spec: str) -> None:
    assert spec.strip() in message("defenses", spec) or not spec.strip()


def test_parse_reads_toml_and_space() -> None:
    assert parse(" f( a = 1e-3 , b='x', c=[1, 2], d=true ) ") == ("f", {"a": 1e-3, "b": "x", "c": [1, 2], "d": True})
    assert parse("f") == parse("f()") == ("f", {})


def test_no_entry_loads_heavy_optional_parts_at_import() -> None:
    code = (
        "import sys\nfrom gibench.registry import KINDS, names, entry_class\n"
        "for kind in KINDS:\n    for name in names(kind):\n        entry_class(kind, name).summary()\n"
        "print(*[m for m in ('torchvision', 'opacus', 'medmnist', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
