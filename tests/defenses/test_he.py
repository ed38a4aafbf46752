"""Homomorphic encryption: what is added under it is the sum, the server sees nothing of it, and with a client all."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scene import flat, held, net_of, same, seen
from torch import Tensor

from gibench import ciphertexts
from gibench.ciphertexts import LARGEST, MODULI, PLAIN, UNIT, absent, keys
from gibench.datasets import Parts
from gibench.defenses.he import HomomorphicEncryption
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.gradients import mean_gradient
from gibench.grid import cells
from gibench.message import make_message, server_sees
from gibench.registry import build
from gibench.runner import make_plan, run
from gibench.store import Store, read_results
from gibench.suite import Suite
from gibench.types import Local

needs_library = pytest.mark.skipif(bool(absent()), reason=f"he {absent()}")
CLIENTS, BFV = Draws(("c",), range(5)), 2.0**-17
EVERY = [(scheme, security) for scheme in ("ckks", "bfv") for security in (128, 192)]


def messages(digits: Parts, n: int = 5) -> dict[str, Tensor]:
    """Real updates."""
    return mean_gradient(net_of("lenet", 1, 10), held(digits.test, n, 1))


@needs_library
@pytest.mark.parametrize(("scheme", "security"), EVERY)
def test_the_decrypted_mean_is_the_mean_within_the_schemes_error(scheme: str, security: int, digits: Parts) -> None:
    found = HomomorphicEncryption(scheme=scheme, security=security, clients=5).measure(messages(digits))
    assert found["error"] <= (1e-6 if scheme == "ckks" else BFV)
    assert found["error"] > (0 if scheme == "ckks" else BFV / 8), "it really is encoded"
    assert found["expansion"] > 5
    assert all(found[f"{stage}_seconds"] > 0 for stage in ("encrypt", "add", "decrypt"))


@needs_library
@pytest.mark.parametrize(("scheme", "security"), EVERY)
def test_training_takes_what_the_library_would_decrypt(scheme: str, security: int, digits: Parts) -> None:
    """Three rounds of a training on real images: bit by bit for BFV, up to SEAL's noise for CKKS."""
    exact = HomomorphicEncryption(scheme=scheme, security=security, clients=5)
    real = replace(exact, training="encrypted")
    net = net_of("lenet", 1, 10)
    for step in range(3):
        sent = make_message(net, exact, held(digits.client, 5, 2), CLIENTS.at(step))
        one, other = exact.received(sent, CLIENTS), real.received(sent, CLIENTS)
        if scheme == "bfv":
            assert same(one, other)
        else:
            apart = max(float((one[k] - other[k]).abs().max()) for k in one)
            assert 0 < apart < 1e-6
        assert max(float((other[k] - sent[k].double().mean(0)).abs().max()) for k in one) <= BFV + 1e-7
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter -= 0.1 * other[name]


@needs_library
def test_ciphertexts_add_without_the_secret_key_and_look_alike() -> None:
    own, values = keys("bfv", 128, ()), torch.linspace(-3, 3, 10000)
    sent = own.encrypt(values)
    assert len(sent) == 2, "8192 slots each"
    assert own.public.is_public()
    with pytest.raises(Exception, match="secret_key"):
        own._read(own.public, sent[0]).decrypt()
    assert sent[0] != own.encrypt(values)[0], "fresh randomness"
    total = own.decrypt(own.add([sent] * 50))
    assert torch.equal(total, (values.double() * UNIT).round() * 50 / UNIT)
    zeros = own.encrypt(torch.zeros(10000))
    assert abs(len(zeros[0]) - len(sent[0])) < 0.01 * len(sent[0]), "not even its size tells a gradient from zeros"


@needs_library
@pytest.mark.parametrize(("scheme", "security"), EVERY)
def test_a_thousand_clients_can_be_summed(scheme: str, security: int) -> None:
    own = keys(scheme, security, ())
    values = torch.tensor([8.0, -8.0, 2.0**-16, 0.123])
    sent = own.encrypt(values)
    mean = own.decrypt(own.add([sent] * 1000)) / 1000
    assert (mean - values.double()).abs().max() <= (1e-6 if scheme == "ckks" else BFV)


@needs_library
@pytest.mark.parametrize("scheme", ["ckks", "bfv"])
@pytest.mark.parametrize("training", ["exact", "encrypted"])
def test_what_does_not_fit_is_a_failure_and_never_privacy(scheme: str, training: str) -> None:
    values = torch.tensor([[1.0, torch.inf, torch.nan, 1e15, 2.0], [1.0, 1.0, 1.0, 1.0, -1.0]])
    defense = HomomorphicEncryption(scheme=scheme, clients=2, training=training)
    got = defense.received({"a": values, "b": None}, Draws(("c",), (0, 1)))
    assert got["a"].isnan().tolist() == [False, True, True, True, False]
    assert torch.allclose(got["a"][[0, 4]], torch.tensor([1.0, 0.5]), atol=1e-6)
    assert got["b"] is None
    most = (PLAIN - 1) // 2 / UNIT / 2
    edge = torch.tensor([[most - 1, most + 1], [most - 1, most + 1]])
    kept = HomomorphicEncryption(clients=2, training=training).received({"a": edge}, CLIENTS)["a"]
    assert kept.isnan().tolist() == [False, True], "a sum that would wrap around"


@needs_library
@pytest.mark.parametrize("scheme", ["ckks", "bfv"])
def test_server_and_a_client_together_see_what_plain_federated_learning_shows(scheme: str, digits: Parts) -> None:
    net, batch, draws = net_of("lenet", 1, 10), held(digits.test, 3, 2), Draws(("m",), range(3))
    for local in (None, Local(2, 0.1, 0.5)):
        plain = flat(server_sees(net, build("defenses", "none"), batch, draws, local))
        defense = HomomorphicEncryption(scheme=scheme, view="collusion")
        apart = (flat(server_sees(net, defense, batch, draws, local)) - plain).abs().max()
        assert 0 < apart <= (1e-6 if scheme == "ckks" else BFV + 1e-7)


@needs_library
def test_a_curious_client_sees_the_mean_over_the_cohort(digits: Parts) -> None:
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 6), 10, HomomorphicEncryption(clients=3))
    assert (view.shape[0], view.clients) == (6, 3)
    single = mean_gradient(view.model, held(digits.test, 6, 2))
    for name, g in view.update.items():
        assert torch.allclose(g, single[name].unflatten(0, (2, 3)).mean(1), atol=2.0**-16)


@needs_library
def test_in_a_stack_the_last_part_decides_what_is_observed(digits: Parts) -> None:
    net, batch, draws = net_of("lenet", 1, 10), held(digits.test, 2, 4), Draws(("m",), range(2))
    stack = build("defenses", "prune(p=0.5) + he(clients=2)")
    pruned = build("defenses", "prune(p=0.5)").message(mean_gradient(net, held(digits.test, 4, 2)), draws, {})
    for name, g in server_sees(net, stack, batch, draws).items():
        assert torch.allclose(g, pruned[name].unflatten(0, (2, 2)).mean(1), atol=2.0**-16)
    sealed = server_sees(net, build("defenses", 'prune(p=0.5) + he(view="server")'), batch, draws)
    assert set(sealed.values()) == {None}
    with pytest.raises(InputError, match="both decide what the server receives"):
        build("defenses", "secagg + he")


def test_the_server_sees_nothing_and_only_the_prior_answers(digits: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    defense = HomomorphicEncryption(view="server")
    view = seen(net_of("lenet", 1, 10), held(digits.test, 2, 2), 10, defense, aux=digits.aux)
    assert set(view.update.values()) == {None}
    undefended = seen(net_of("lenet", 1, 10), held(digits.test, 2, 2), 10, aux=digits.aux)
    prior, draws = build("attacks", "prior_only"), Draws(("a",), range(2))
    assert torch.equal(prior.answer(view, draws).x, prior.answer(undefended, draws).x)
    for attack in ("inverting_gradients(tv=0.1)", "lti", "label_inference", 'auto(budget="quick")'):
        with pytest.raises(InputError, match=r"shares no parameter at all|is unknown|no attack can use"):
            build("attacks", attack).answer(view, draws)
    monkeypatch.setattr(ciphertexts, "find_spec", lambda name: True)
    for cell in cells(_suite(['he(view="server", clients=2)', 'prune(p=0.5) + he(view="server", clients=2)'])):
        sealed = "he(" in cell.client.defense.spec() and not cell.attack.control
        assert cell.skip == ("the server sees ciphertexts only, so there is no update to look at" if sealed else "")


def test_without_the_library_its_pairs_are_skipped_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ciphertexts, "find_spec", lambda name: None)
    reason = "he needs TenSEAL, which is not installed: pip install 'gibench[he]'"
    suite = _suite(["he(clients=2)", "prune(p=0.5) + he(clients=2)"])
    plan = make_plan(suite, Store(tmp_path))
    assert {cell.skip for cell in plan.cells if "he(" in cell.client.defense.spec()} == {reason}
    assert {job.work.defense.spec() for job in plan.jobs if not job.after} == {"none"}
    assert not {cell.skip for cell in plan.cells if cell.client.defense.spec() == "none"} - {""}
    keys.cache_clear()
    with pytest.raises(InputError, match=r"homomorphic encryption needs TenSEAL.*pip install 'gibench\[he\]'"):
        HomomorphicEncryption().measure({"a": torch.ones(2, 3)})


@needs_library
def test_a_run_of_all_views_says_who_sees_what(tmp_path: Path) -> None:
    views = [f'he(clients=2, view="{view}")' for view in ("server", "client", "collusion")]
    suite = _suite([*views, 'he(scheme="ckks", clients=2, view="collusion", training="encrypted")'])
    before = torch.random.get_rng_state()
    ended = run(suite, tmp_path, workers=1, device="cpu")
    torch.random.set_rng_state(before)
    assert ended.failed == []
    found = read_results(tmp_path)
    ran = found.rows.groupby("defense").attack.unique().map(len).to_dict()
    specs = [build("defenses", view).spec() for view in views]
    assert [ran[spec] for spec in specs] == [1, 2, 2]
    utility = found.clients.set_index("defense").utility
    assert max(abs(utility - utility["none"])) < 0.02
    uploads = found.clients.set_index("defense").upload_bytes
    assert uploads[specs[0]] > 20 * uploads["none"], "a small net fills no ciphertext"


def test_bytes_are_those_of_real_ciphertexts(monkeypatch: pytest.MonkeyPatch, digits: Parts) -> None:
    made: list[int] = []

    class Counting:
        def encrypt(self, values: Tensor) -> list[bytes]:
            made.append(len(values))
            return [bytes(1000 + i) for i in range(-(-len(values) // 8192))]

    monkeypatch.setattr(HomomorphicEncryption, "_keys", Counting())
    update = {"a": torch.zeros(2, 100, 100), "b": None, "c": torch.zeros(2, 5)}
    assert HomomorphicEncryption().upload_bytes(update) == 2001
    assert HomomorphicEncryption().upload_bytes({"a": torch.zeros(2, 8192 * 20)}) == 20 * 1003.5
    assert made == [10005, 8192 * 8]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("he(moduli=[60, 60, 60, 60])", "240 bits are more than the 218 that leave security 128"),
        ("he(security=192, moduli=[60, 40, 60])", "160 bits are more than the 152 that leave security 192"),
        ("he(moduli=[60])", "at least two are needed, each of 31 to 60 bits"),
        ("he(moduli=[62, 40, 60])", "each of 31 to 60 bits"),
        ("he(moduli=[31, 31, 60])", "62 bits before the last prime are too few"),
        ("he(security=256)", "security: input should be 128 or 192"),
        ('he(scheme="paillier")', "scheme: input should be 'ckks' or 'bfv'"),
    ],
)
def test_what_seal_or_the_security_level_refuses_is_one_line(spec: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        build("defenses", spec)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@needs_library
def test_seal_refuses_what_is_refused_here_and_takes_the_rest() -> None:
    assert {security: sum(bits) <= LARGEST[security] for security, bits in MODULI.items()} == {128: True, 192: True}
    with pytest.raises(ValueError, match="parameters are not set correctly"):
        ciphertexts.Keys("ckks", (60, 60, 60, 60))
    values = torch.tensor([0.5, -7.0, 123.0])
    for scheme in ("ckks", "bfv"):
        for bits in ((39, 31, 31), (60, 31, 31), (45, 45, 45), (60, 60, 38, 60)):
            defense = HomomorphicEncryption(scheme=scheme, moduli=bits)
            assert defense.measure({"a": torch.stack([values, values])})["error"] < 1e-5


def test_what_it_cannot_serve() -> None:
    net, shape = net_of("lenet", 1, 10), (1, 32, 32)
    assert "training.clients" in HomomorphicEncryption(clients=1).unfit(net, shape, 1)
    assert "only 4 are trained" in HomomorphicEncryption(clients=5).unfit(net, shape, 4)
    assert HomomorphicEncryption(clients=5).unfit(net, shape, 5) == ""
    assert HomomorphicEncryption(clients=5, view="server").unfit(net, shape, 4) == ""


def _suite(defenses: list[str]) -> Suite:
    return Suite(
        name="encrypted",
        datasets=["digits"],
        models=["lenet(width=4)"],
        defenses=defenses,
        attacks=["inverting_gradients(steps=2, tv=0.01)"],
        checkpoints=["final"],
        victims=2,
        client_images=24,
        aux_images=40,
        training={"clients": 4, "epochs": 1, "batch": 2},  # type: ignore[arg-type]
    )
