"""Attention, encoders and decoders, the Transformer, the loss over a vocabulary, and beam search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from elman.config import parse
from elman.decoding.beam import Search, beam_search
from elman.layers.attention import AttentionKind, Memory, Uniform, attention
from elman.layers.encoder_decoder import AttentiveDecoder
from elman.layers.heads import VocabularyHead, linear_cross_entropy
from elman.layers.rotary import rotate
from elman.layers.state import map_state
from elman.layers.transformer import SelfAttention, Transformer, sinusoids
from elman.networks.sequence_to_sequence import SequenceToSequence, recurrent_translator, transformer_translator
from tests.conftest import close

V, S, T = 13, 7, 5
NETWORKS: dict[str, Callable[[], SequenceToSequence]] = {
    "lstm": lambda: recurrent_translator(11, V, embedding_size=8, hidden_size=12),
    "gru, shared": lambda: recurrent_translator(V, V, cell="gru", embedding_size=8, hidden_size=12, shared=True),
    "one layer, not tied": lambda: recurrent_translator(
        11, V, embedding_size=8, hidden_size=12, num_layers=1, tie=False
    ),
    "gnmt": lambda: recurrent_translator(11, V, embedding_size=8, hidden_size=12, num_layers=4, gnmt=True),
    "fed": lambda: recurrent_translator(11, V, embedding_size=8, hidden_size=12, input_feeding=True),
    **{
        kind: lambda kind=kind: recurrent_translator(11, V, embedding_size=8, hidden_size=12, kind=kind)  # type: ignore[misc]
        for kind in get_args(AttentionKind)
    },
    "transformer": lambda: transformer_translator(11, V, embedding_size=8, hidden_size=16),
    "transformer, post": lambda: transformer_translator(
        11, V, embedding_size=8, hidden_size=16, norm="post", positions="learnt"
    ),
}


def network(name: str) -> SequenceToSequence:
    torch.manual_seed(3)
    made = NETWORKS[name]().double().eval()
    for parameter in made.parameters():
        torch.nn.init.uniform_(parameter, -0.7, 0.7)
    return made


def some_ids() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return (
        torch.randint(2, 11, (4, S)),
        torch.tensor([7, 2, 5, 1]),
        torch.randint(0, V, (4, T)),
        torch.tensor([5, 4, 1, 5]),
    )


@pytest.mark.parametrize("few", [0, 26, 10**6])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("negative", [0, 3])
def test_the_fused_loss(smoothing: float, negative: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.layers.heads._LOGITS", 40)  # three rows at a time
    monkeypatch.setattr("elman.layers.heads._CACHED", few)
    x = torch.randn(4, 5, 6, dtype=torch.double, requires_grad=True)
    w, b = (torch.randn(*shape, dtype=torch.double, requires_grad=True) for shape in ((V, 6), (V,)))
    targets = torch.randint(-negative, V, (4, 5))
    ours = linear_cross_entropy(x, w, b, targets, smoothing)
    wanted = targets.clamp(min=-1).flatten()
    law = cross_entropy(linear(x, w, b).flatten(0, 1), wanted, ignore_index=-1, label_smoothing=smoothing)
    close(ours, law)
    close(torch.autograd.grad(2 * ours, (x, w, b)), torch.autograd.grad(2 * law, (x, w, b)))
    with torch.no_grad():
        close(linear_cross_entropy(x, w, b, targets, smoothing), law)


@pytest.mark.parametrize("few", [0, 10**6])
def test_the_fused_loss_of_nothing_and_in_bfloat16(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.layers.heads._CACHED", few)
    head = VocabularyHead(6, V)
    x = torch.randn(3, 6, requires_grad=True)
    head.loss(x, torch.full((3,), -100)).backward()
    assert x.grad is not None
    assert x.grad.eq(0).all()
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(x, torch.tensor([1, 2, 3]))
    assert loss.dtype == torch.float32
    close(loss, head.loss(x, torch.tensor([1, 2, 3])), 0.05)


def test_a_tied_head_must_fit() -> None:
    with pytest.raises(ValueError, match=r"the tied embedding must be \(13, 6\)"):
        VocabularyHead(6, V, torch.nn.Embedding(V, 5))


@pytest.mark.parametrize("kind", get_args(AttentionKind))
def test_attention(kind: AttentionKind) -> None:
    """Weights sum to 1 over what is real, padding means nothing, and steps at once are steps one by one."""
    looking = attention(kind, 6, 6, 5, heads=2).double()
    values, query = torch.randn(3, S, 6).double(), torch.randn(3, T, 6).double()
    lengths = torch.tensor([7, 3, 0])
    context, weights, _ = looking(query, looking.read(values, lengths))
    assert context.shape == (3, T, looking.output_size)
    close(weights.sum(-1)[:2], torch.ones(2, T).double())
    assert weights[1, :, 3:].eq(0).all()
    assert weights[2].eq(0).all()
    other = torch.where(torch.arange(S)[None, :, None] < lengths[:, None, None], values, 9.0)
    close(looking(query, looking.read(other, lengths))[:2], (context, weights))
    state, parts = None, []
    for t in range(T):
        _, part, state = looking(query[:, t : t + 1], looking.read(values, lengths), state)
        parts.append(part)
    close(torch.cat(parts, 1), weights)


def test_rotary_attention_sees_how_far_things_are() -> None:
    """What stands everywhere is told apart by its distance: from the query in one head, from the end in the other."""
    looking = attention("rotary", 16, 6, 5, heads=2).double()
    values, query = torch.randn(1, 1, 6).double().expand(2, 9, 6), torch.randn(1, 1, 16).double().expand(2, 9, 16)
    lengths = torch.tensor([9, 5])
    memory = looking.read(values, lengths)
    k = memory.keys[:, :, 0]
    q, _ = looking.queries(query, None)  # type: ignore[operator]
    scores = torch.einsum("bhtd,bhsd->bhts", q, k)
    for t, s in itertools.product(range(8), range(4)):
        close(scores[:, 0, t, s], scores[:, 0, t + 1, s + 1], 1e-5)
        close(scores[:, 1, t, s + 1], scores[:, 1, t + 1, s], 1e-5)
    close(scores[0, 1, 2, 4:9], scores[1, 1, 2, 0:5], 1e-5)
    assert scores[0, 0, 3].std() > 0.01


@pytest.mark.parametrize(("size", "heads"), [(2, 1), (6, 3), (6, 1), (7, 1), (24, 3)])
def test_rotary_attention_of_any_size(size: int, heads: int) -> None:
    """All at once, step by step, and beside other beams, it looks at the same; in bf16 nearly."""
    looking = attention("rotary", size, 6, 5, heads=heads).eval()
    values, query = torch.randn(2, S, 6), torch.randn(2, T, size)
    memory = looking.read(values, torch.tensor([S, 3]))
    context, weights, (count,) = looking(query, memory)
    assert count.tolist() == [[T], [T]]
    state = None
    for t in range(T):
        beams = query[:, t].repeat_interleave(2, 0)
        one, looked, state = looking.step(beams, memory, state)
        close((one[::2], looked[1::2]), (context[:, t], weights[:, t]), 1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        rough, looked, _ = looking(query, looking.read(values, torch.tensor([S, 3])))
    assert rough.dtype == torch.bfloat16
    close((rough.float(), looked.float()), (context, weights), 0.1)
    alone = looking(query[:1, :1], looking.read(values[:1]))
    close((alone[0], alone[1]), (context[:1, :1], weights[:1, :1]), 1e-5)
    assert looking(query[:, :0], memory)[0].shape == (2, 0, size)


def test_turning_has_its_gradients_and_leaves_what_it_reads() -> None:
    x, by = torch.randn(2, 3, 2, 4, 5, dtype=torch.double, requires_grad=True), torch.randn(2, 3, 4, 2).double().cos()
    by = torch.polar(torch.ones_like(by), by)
    assert torch.autograd.gradcheck(rotate, (x, by), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(rotate, (x, by))
    one, before = x[:1, :1, :1].detach(), x[:1, :1, :1].detach().clone()
    rotate(one, by[:1, :1])
    close(one, before)


@pytest.mark.parametrize("causal", [False, True])
def test_products_are_torchs_own_attention(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = SelfAttention(8, 2, causal, 0.0).double(), torch.randn(3, 4, 8).double().requires_grad_()
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    for given, past in ((None, None), (mask, None), (None, torch.randn(3, 2, 2, 6, 4).double())):
        found = []
        for short in (0, 512):
            monkeypatch.setattr("elman.layers.transformer._SHORT", short)
            y, known = layer(x if past is None else x[:, :1], given, past)
            found.append((y, known, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])))
        close(*found)


def test_wrong_attention() -> None:
    with pytest.raises(ValueError, match="needs queries and memory of one size"):
        attention("dot", 4, 6, 5)
    with pytest.raises(ValueError, match="query_size must be a multiple of heads, got: query_size 6, heads 4"):
        attention("multihead", 6, 6, 5)
    with pytest.raises(ValueError, match="rotary attention with 3 heads needs query_size >= 6, got: 3"):
        attention("rotary", 3, 6, 5, heads=3)
    with pytest.raises(ValueError, match="unknown attention 'self': choose from additive, concat, dot"):
        attention("self", 6, 6, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETWORKS)
def test_step_by_step_is_all_at_once(name: str) -> None:
    made = network(name)
    source, lengths, inputs, steps = some_ids()
    with torch.no_grad():
        memory, state = made.read(source, lengths)
        y, weights = made.write(inputs, memory, state, steps)
        logits = made.head(y)
        for t in range(T):
            step, looked, state = made.step(inputs[:, t], memory, state)
            rows = steps > t
            close((step[rows], looked[rows]), (logits[rows, t], weights[rows, t]), 1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_means_nothing(name: str) -> None:
    made = network(name)
    source, lengths, inputs, steps = some_ids()
    padded = torch.where(torch.arange(S) < lengths[:, None], source, 0)
    with torch.no_grad():
        law = made.write(inputs, *made.read(source, lengths), steps)[0]
        ours = made.write(inputs, *made.read(padded, lengths), steps)[0]
        for row, (length, step) in enumerate(zip(lengths.tolist(), steps.tolist(), strict=True)):
            close(ours[row, :step], law[row, :step])
            one = slice(row, row + 1)
            memory, state = made.read(source[one, :length], lengths[one])
            close(made.write(inputs[one, :step], memory, state, steps[one])[0][0], law[row, :step], 1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_parameters_learn(name: str) -> None:
    made = network(name).train()
    source, lengths, inputs, _ = some_ids()
    y, _ = made.write(inputs, *made.read(source, lengths), torch.full((4,), T))
    made.head.loss(y, inputs.roll(1, 1)).backward()
    # the query's and keys' common offset changes no softmax
    for key, parameter in made.named_parameters():
        if "attention" not in key and "cross" not in key:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key


def test_a_causal_transformer_sees_no_later_step() -> None:
    made = Transformer(8, 2, 2, 16, causal=True).double().eval()
    x = torch.randn(2, 6, 8).double()
    y, _, state = made(x)
    other, _, _ = made(torch.cat((x[:, :4], torch.randn(2, 2, 8).double()), 1))
    close(other[:, :4], y[:, :4])
    step = made.initial_state(x)
    for t in range(6):
        z, _, step = made.step(x[:, t], None, step)
        close(z, y[:, t], 1e-9)
    close(step.cache, state.cache, 1e-9)


def test_places() -> None:
    table = sinusoids(50, 6)
    close(table[7, 2:4], torch.tensor([math.sin(7 / 10_000 ** (2 / 6)), math.cos(7 / 10_000 ** (2 / 6))]), 1e-5)
    made = transformer_translator(11, V, embedding_size=8, hidden_size=16, positions="learnt", max_positions=4)
    with pytest.raises(ValueError, match="the model has encodings for 4 positions, the input needs 7"):
        made.read(torch.ones(1, 7, dtype=torch.long), torch.tensor([7]))


def searched(made: SequenceToSequence, most: int, rows: slice = slice(None), **options: Any) -> list[list[Any]]:
    source, lengths, _, _ = some_ids()
    source, lengths = source[rows, : int(lengths[rows].max())], lengths[rows]
    with torch.no_grad():
        memory, state = made.read(source, lengths)
        return beam_search(made, memory, state, torch.full((len(source),), most), parse(Search, options), 0, 0, [1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_is_searched_as_its_rows_are(name: str) -> None:
    made = network(name)
    for options in (
        {"beam": 4, "n_best": 3},
        {"beam": 2, "coverage_penalty": 0.3},
        {"beam": 20, "length_penalty": 0.0},
    ):
        together = searched(made, 6, **options)
        for row in range(4):
            (alone,) = searched(made, 6, slice(row, row + 1), **options)
            assert [h.ids for h in alone] == [h.ids for h in together[row]]
            close([torch.tensor(h.score) for h in alone], [torch.tensor(h.score) for h in together[row]], 1e-5)
            for a, b in zip(alone, together[row], strict=True):
                close(b.weights[:, : a.weights.shape[1]], a.weights, 1e-5)
                assert len(a.weights) == len(a.ids) + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_beam_of_one_is_greedy(name: str) -> None:
    made = network(name)
    source, lengths, _, _ = some_ids()
    answers = searched(made, 8, beam=1)
    assert [h.ids for (h,) in searched(made, 8, beam=1, coverage_penalty=1.0)] == [h.ids for (h,) in answers]
    for row, found in enumerate(answers):
        ids: list[int] = []
        with torch.no_grad():
            memory, state = made.read(source[row : row + 1, : lengths[row]], lengths[row : row + 1])
            for _ in range(8):
                logits, _, state = made.step(torch.tensor(ids[-1:] or [0]), memory, state)
                logits[:, 1] = -math.inf
                ids.append(int(logits.argmax()))
                if ids[-1] == 0:
                    break
        assert found[0].ids == ids[:7] if 0 not in ids else ids[:-1]


class Tiny:
    """p(next | last) from a table, for all that can be written to be looked at."""

    def __init__(self, seed: int, size: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.table = torch.randn(size, size, generator=draw, dtype=torch.double) * 2

    def step(self, ids: Tensor, memory: Any, state: Any) -> tuple[Tensor, Tensor, Any]:
        return self.table[ids], torch.full((len(ids), 3), 1 / 3), state


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_full_beam_finds_the_best(seed: int, alpha: float) -> None:
    size, most = 4, 4
    tiny = Tiny(seed, size)
    log_p = tiny.table.float().log_softmax(-1)
    scores = {}
    for length in range(1, most + 1):
        for ids in itertools.product(range(1, size), repeat=length - 1):
            path = [0, *ids, 0]
            total = sum(float(log_p[a, b]) for a, b in itertools.pairwise(path))
            scores[ids] = total / ((5 + length) / 6) ** alpha
    memory = Memory(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), torch.ones(1, 3, dtype=torch.bool))
    options = parse(Search, {"beam": 200, "n_best": 3, "length_penalty": alpha})
    (found,) = beam_search(tiny, memory, (torch.zeros(1, 1),), torch.tensor([most]), options, 0, 0, [])
    best = sorted(scores, key=scores.__getitem__, reverse=True)[:3]
    assert [tuple(h.ids) for h in found] == best
    close([torch.tensor(h.score) for h in found], [torch.tensor(scores[ids]) for ids in best], 1e-5)


def test_the_end_is_not_taken_for_an_answer_because_it_is_among_the_best() -> None:
    """A sure writer of six tokens, whose second best is always the end: K bad ends do not stop the search."""
    table = torch.full((8, 8), -20.0)
    for last in range(7):
        table[last, last + 1] = 0.0
        table[last, 7] = 0.0 if last == 6 else -9.0
    tiny = Tiny(0, 8)
    tiny.table = table
    memory = Memory(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), torch.ones(1, 3, dtype=torch.bool))
    for options in ({"beam": 1}, {"beam": 2}, {"beam": 5, "n_best": 3}, {"beam": 4, "coverage_penalty": 0.2}):
        (found,) = beam_search(tiny, memory, (torch.zeros(1, 1),), torch.tensor([20]), parse(Search, options), 0, 7, [])
        assert found[0].ids == [1, 2, 3, 4, 5, 6]
        assert len(found) == options.get("n_best", 1)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_named_states_keep_their_names() -> None:
    memory = Memory(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3))
    assert isinstance(map_state(memory, torch.neg), Memory)


def test_the_end_is_not_the_first_token_below_the_minimum_length() -> None:
    """The most probable text is the empty one; with a minimum length, the best of the others is found."""
    tiny = Tiny(0, 4)
    tiny.table = torch.tensor([[5.0, 0.0, 1.0, 0.0], [5.0, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 1.0], [5.0, 0.0, 0.0, 0.0]])
    memory = Memory(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), torch.ones(1, 3, dtype=torch.bool))

    def best(min_length: int, suppressed: list[int]) -> list[int]:
        given = (tiny, memory, (torch.zeros(1, 1),), torch.tensor([6]), parse(Search, {"beam": 2}), 0, 0, suppressed)
        return beam_search(*given, min_length)[0][0].ids

    assert [best(n, []) for n in (0, 1, 2)] == [[], [2], [2, 3]]
    assert best(1, [1, 2, 3]) == []  # nothing else can be written


def test_a_decoder_adds_the_mean_of_its_memory_to_its_output() -> None:
    torch.manual_seed(0)
    decoder = AttentiveDecoder("lstm", 3, 4, 1, Uniform(4, 5), output_size=5, residual=True)
    values, lengths = torch.randn(2, 3, 5), torch.tensor([3, 2])
    memory = decoder.attention.read(values, lengths)
    x = torch.randn(2, 4, 3)
    y, weights, _ = decoder(x, memory)
    mean = torch.stack((values[0].mean(0), values[1, :2].mean(0)))
    assert torch.allclose(weights[1, 0], torch.tensor([0.5, 0.5, 0.0]))
    h, _ = decoder.layers[0](x)
    plain = torch.tanh(decoder.output(torch.cat((h, mean[:, None].expand(-1, 4, -1)), -1)))
    assert torch.allclose(y, plain + mean[:, None], atol=1e-6)
    state = decoder.initial_state(x)
    for t in range(4):
        out, _, state = decoder.step(x[:, t], memory, state)
        assert torch.allclose(out, y[:, t], atol=1e-6)
    with pytest.raises(ValueError, match="output_size must be the size of a context, 5"):
        AttentiveDecoder("lstm", 3, 4, 1, Uniform(4, 5), output_size=6, residual=True)
