"""Transducers: the loss against all alignments, its gradients, and the layers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from elman.layers import transducer_loss as loss_module
from elman.layers.transducer import Joiner, Predictor, transducer_loss

F64 = torch.float64


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)) * scale


def over_all_alignments(logits: Tensor, targets: list[int], blank: int = 0) -> Tensor:
    """-log of the sum over all alignments, one by one, for logits (T, U + 1, V)."""
    T, U = logits.shape[0], len(targets)
    log_p = logits.log_softmax(-1)
    totals = []
    for places in itertools.combinations(range(T + U - 1), U):  # where tokens are written; a blank is last
        t = u = 0
        steps = []
        for n in range(T + U):
            if n in places:
                steps.append(log_p[t, u, targets[u]])
                u += 1
            else:
                steps.append(log_p[t, u, blank])
                t += 1
        totals.append(torch.stack(steps).sum())
    return -torch.stack(totals).logsumexp(0)


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of different lengths, one without targets and one of a single frame; padding that must not matter."""
    targets = torch.tensor([[1, 3, 3], [2, -7, 99], [9, 9, 9], [4, 1, 2]])
    return draw(4, 4, 4, 5), targets, torch.tensor([4, 3, 2, 1]), torch.tensor([3, 1, 0, 3])


def reference(logits: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor) -> Tensor:
    rows = zip(logits, targets.tolist(), lengths.tolist(), target_lengths.tolist(), strict=True)
    return torch.stack([over_all_alignments(z[:T, : U + 1], ids[:U]) for z, ids, T, U in rows])


def layers(seed: int = 1) -> tuple[Joiner, Tensor, Tensor]:
    """A joiner, and the encodings and predictions for `batch`."""
    torch.manual_seed(seed)
    joiner = Joiner(3, 2, 4, vocab_size=5).double()
    return joiner, draw(4, 4, 3, seed=5).requires_grad_(), draw(4, 4, 2, seed=6).requires_grad_()


def test_the_loss_is_the_sum_over_all_alignments() -> None:
    logits, *rest = batch()
    torch.testing.assert_close(transducer_loss(logits, *rest), reference(logits, *rest))


def test_the_gradient_is_that_of_the_sum() -> None:
    logits, *rest = batch()
    weights = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=F64)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (transducer_loss(ours, *rest) * weights).sum().backward()
    (reference(theirs, *rest) * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradcheck() -> None:
    logits, *rest = batch()
    assert torch.autograd.gradcheck(lambda z: transducer_loss(z, *rest), logits.requires_grad_())


def test_another_blank() -> None:
    logits = draw(1, 3, 3, 4)
    loss = transducer_loss(logits, torch.tensor([[0, 1]]), torch.tensor([3]), torch.tensor([2]), blank=3)
    torch.testing.assert_close(loss[0], over_all_alignments(logits[0], [0, 1], blank=3))


def test_padding_may_be_anything() -> None:
    logits, targets, lengths, target_lengths = batch()
    padded = torch.full((4, 7, 6, 5), math.nan, dtype=F64)
    for b, (T, U) in enumerate(zip(lengths.tolist(), target_lengths.tolist(), strict=True)):
        padded[b, :T, : U + 1] = logits[b, :T, : U + 1]
    padded.requires_grad_()
    wide = torch.nn.functional.pad(targets, (0, 2), value=-1)
    loss = transducer_loss(padded, wide, lengths, target_lengths)
    torch.testing.assert_close(loss, transducer_loss(logits, targets, lengths, target_lengths))
    loss.sum().backward()
    assert padded.grad is not None and torch.isfinite(padded.grad).all()
    assert padded.grad[3, 1:].eq(0).all() and padded.grad[:, :, 4:].eq(0).all()


def test_no_frames_and_no_rows() -> None:
    none = torch.zeros(2, dtype=torch.long)
    assert transducer_loss(draw(2, 0, 1, 3), torch.zeros(2, 0, dtype=torch.long), none, none).eq(0).all()
    logits = draw(2, 3, 2, 3).requires_grad_()
    loss = transducer_loss(logits, torch.ones(2, 1, dtype=torch.long), torch.tensor([0, 3]), torch.tensor([0, 1]))
    loss.sum().backward()
    assert loss[0] == 0 and logits.grad is not None and logits.grad[0].eq(0).all()
    assert transducer_loss(draw(0, 3, 2, 3), torch.zeros(0, 1, dtype=torch.long), none[:0], none[:0]).shape == (0,)


def test_extreme_logits_stay_finite() -> None:
    logits = draw(2, 60, 21, 6, scale=200.0).float().requires_grad_()
    targets, T, U = torch.randint(1, 6, (2, 20)), torch.tensor([60, 41]), torch.tensor([20, 13])
    loss = transducer_loss(logits, targets, T, U)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and logits.grad is not None and torch.isfinite(logits.grad).all()


def test_impossible_targets_have_no_gradient() -> None:
    logits = draw(1, 3, 2, 3)
    logits[..., 2] = -math.inf
    logits.requires_grad_()
    loss = transducer_loss(logits, torch.tensor([[2]]), torch.tensor([3]), torch.tensor([1]))
    loss.sum().backward()
    assert loss.tolist() == [math.inf] and logits.grad is not None and logits.grad.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    logits = draw(2, 50, 11, 8).to(dtype).requires_grad_()
    rest = torch.randint(1, 8, (2, 10)), torch.tensor([50, 44]), torch.tensor([10, 9])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = transducer_loss(logits, *rest)
    loss.sum().backward()
    exact = logits.detach().double().requires_grad_()
    wanted = transducer_loss(exact, *rest)
    wanted.sum().backward()
    assert loss.dtype == torch.float32 and logits.grad is not None and logits.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("limit", [1, 60, 1 << 19])
def test_pieces_give_the_same(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "_CACHED", limit)
    monkeypatch.setattr(loss_module, "_FRAMES", 2)
    logits, *rest = batch()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(reference(logits, *rest).sum(), logits)
    loss = transducer_loss(logits, *rest)
    torch.testing.assert_close(loss, reference(logits, *rest))
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), logits)[0], gradient)

    joiner, encodings, predictions = layers()
    inputs = [encodings, predictions, *joiner.parameters()]
    wanted = transducer_loss(joiner(encodings, predictions), *rest)
    loss = joiner.loss(encodings, predictions, *rest)
    torch.testing.assert_close(loss, wanted)
    weights = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=F64)
    for ours, theirs in zip(
        torch.autograd.grad((loss * weights).sum(), inputs),
        torch.autograd.grad((wanted * weights).sum(), inputs), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, theirs)


def test_the_gradient_leaves_out_improbable_nodes() -> None:
    """A trained network: one alignment has nearly all the probability, and few blocks have a gradient."""
    T, U, V = 64, 30, 32
    joiner = Joiner(T, U + 1, T + U + 1, vocab_size=V)
    targets = torch.arange(1, U + 1)[None]
    encodings, predictions = torch.eye(T)[None].requires_grad_(), torch.eye(U + 1)[None].requires_grad_()
    with torch.no_grad():
        for parameter in joiner.parameters():
            parameter.zero_()
        joiner.encoder.weight[:T] = 4 * torch.eye(T)
        joiner.predictor.weight[T:] = 4 * torch.eye(U + 1)
        for t in range(T):  # token t // 2 at the even frames
            joiner.output.weight[1 + min(t // 2, U - 1), t] = 30.0
        for u in range(U + 1):
            joiner.output.weight[: u + 1, T + u] = 40.0  # what has been written is not written again
            joiner.output.weight[1 : u + 1, T + u] = -40.0
    rest = targets, torch.tensor([T]), torch.tensor([U])
    active = []
    blocks = loss_module._blocks

    def counted(nodes: Tensor, size: int) -> list:
        found = list(blocks(nodes, size))
        active.append(sum(len(b.rows) * len(b.frames) * b.columns.shape[1] for b in found))
        return found

    inputs = [encodings, predictions, *joiner.parameters()]
    wanted = torch.autograd.grad(transducer_loss(joiner(encodings, predictions), *rest).sum(), inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_module, "_blocks", counted)
        ours = torch.autograd.grad(joiner.loss(encodings, predictions, *rest).sum(), inputs)
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert active[0] == T * (U + 1) and active[1] < active[0] / 2


def test_the_loss_of_a_joiner_under_autocast() -> None:
    torch.manual_seed(0)
    joiner = Joiner(6, 5, 16, vocab_size=9)
    encodings, predictions = torch.randn(3, 20, 6, requires_grad=True), torch.randn(3, 8, 5, requires_grad=True)
    rest = torch.randint(1, 9, (3, 7)), torch.tensor([20, 11, 3]), torch.tensor([7, 0, 5])
    exact = joiner.loss(encodings, predictions, *rest)
    inputs = [encodings, predictions, *joiner.parameters()]
    wanted = torch.autograd.grad(exact.sum(), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = joiner.loss(encodings, predictions, *rest)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.01, atol=0.05)
    for ours, theirs in zip(torch.autograd.grad(loss.sum(), inputs), wanted, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0.05 * float(theirs.abs().max()))


def test_no_gradient_is_computed_where_none_is_needed() -> None:
    logits, *rest = batch()
    joiner, encodings, predictions = layers()
    with torch.no_grad():
        assert not transducer_loss(logits, *rest).requires_grad
        assert not joiner.loss(encodings, predictions, *rest).requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": draw(4, 4, 5)}, r"logits must be \(B, T, U \+ 1, V\)"),
        ({"targets": torch.ones(4, 2, dtype=torch.long)}, r"targets must be \(4, 3\)"),
        ({"lengths": torch.tensor([5, 3, 2, 1])}, r"lengths must be in 0..4, got: 5"),
        ({"lengths": torch.tensor([4, 3, 2])}, r"lengths must be \(4,\)"),
        ({"lengths": torch.tensor([4, 0, 2, 1])}, "row 1 has targets but no frames"),
        ({"target_lengths": torch.tensor([3, -1, 0, 3])}, r"target_lengths must be in 0..3, got: -1"),
        ({"target_lengths": torch.tensor([3, 2, 0, 3])}, "targets must be in 0..4 and not the blank, 0, got: -7"),
        ({"blank": 3}, "targets must be in 0..4 and not the blank, 3, got: 3"),
        ({"blank": 5}, "blank must be in 0..4, got: 5"),
    ],
)
def test_wrong_arguments(change: dict, message: str) -> None:
    logits, targets, lengths, target_lengths = batch()
    arguments = {"logits": logits, "targets": targets, "lengths": lengths, "target_lengths": target_lengths} | change
    with pytest.raises(ValueError, match=message):
        transducer_loss(**arguments)


def test_the_predictor_step_by_step_is_the_whole() -> None:
    torch.manual_seed(0)
    predictor = Predictor(7, 4, 6, "gru", num_layers=2, dropout=0.5).eval()
    targets, lengths = torch.tensor([[3, 5, 2], [6, 99, 99]]), torch.tensor([3, 1])
    y = predictor(targets, lengths)
    assert y.shape == (2, 4, 6)
    state = None
    for u in range(4):
        ids = torch.zeros(1, dtype=torch.long) if u == 0 else targets[:1, u - 1]
        step, state = predictor.step(ids, state)
        torch.testing.assert_close(step[0], y[0, u])
    torch.testing.assert_close(y[1, :2], predictor(targets[1:, :1])[0])


def test_a_transducer_learns_to_copy() -> None:
    """A frame shows a token or nothing; the text is the tokens shown."""
    torch.manual_seed(0)
    V, B, T = 9, 16, 8
    predictor, joiner = Predictor(V, 8, 16, "gru"), Joiner(V, 16, 16, V)
    optimiser = torch.optim.Adam([*predictor.parameters(), *joiner.parameters()], lr=0.1)
    losses = []
    for _ in range(60):
        shown = (torch.rand(B, T).argsort(1) + 1) * (torch.rand(B, T) < 0.6)
        texts = [row[row > 0] for row in shown]
        lengths = torch.tensor([len(text) for text in texts])
        targets = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        encodings = torch.nn.functional.one_hot(shown, V).float()
        loss = joiner.loss(encodings, predictor(targets, lengths), targets, torch.full((B,), T), lengths).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 15 and losses[-1] < 1
