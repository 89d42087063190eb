"""The attentive probe gives the numbers of the official program, and of transformers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from worldflux_jepa.vjepa2 import hf_probe, load_probe
from worldflux_jepa.vjepa2.probe import AttentivePooler, CrossAttention

RECORDED = "vjepa2_probe"
EPS, GRADIENT = 1e-4, 1e-4


@pytest.fixture
def probe(recording):
    return load_probe(recording.below("weights/probe/"), heads=recording.meta["config"]["num_heads"])


def test_every_block_and_the_logits(recording, probe, agrees):
    tokens = recording["x"]
    for number, block in enumerate(probe.pooler.blocks):
        tokens = block(tokens)
        agrees(tokens, recording[f"block{number}"])
    cross = probe.pooler.cross_attention_block
    queries = probe.pooler.query_tokens.expand(len(tokens), -1, -1)
    agrees(cross.xattn(queries, cross.norm1(tokens)), recording["xattn"])
    agrees(cross(queries, tokens), recording["cross"])
    agrees(probe.pooler(recording["x"]).squeeze(1), recording["pooled"])
    agrees(probe(recording["x"]), recording["logits"])


def test_gradients_of_the_cross_entropy(recording, probe, agrees):
    x = recording.learning("x")
    loss = F.cross_entropy(probe(x), recording["labels"].long())
    agrees(loss, recording["loss"])
    loss.backward()
    agrees(x.grad, recording["grad_x"], tolerance=GRADIENT)
    weights, wanted = dict(probe.named_parameters()), recording.below("grads/probe/")
    assert wanted
    assert all(value.grad is not None for value in weights.values())
    for name, value in wanted.items():
        agrees(weights[name].grad, value, tolerance=GRADIENT)


def test_the_eps_of_norms(recording, probe, agrees):
    agrees(probe(recording["eps_probe_in"]), recording["eps_probe_logits"], tolerance=EPS)


def test_a_pooler_of_several_queries_and_bare_attention(recording, agrees):
    for name in ("pooler1", "pooler2"):
        weights = recording.below(f"weights/{name}/")
        _, queries, width = weights["query_tokens"].shape
        complete = "cross_attention_block.norm1.weight" in weights
        ratio = len(weights["cross_attention_block.mlp.fc1.weight"]) / width if complete else 4.0
        heads = recording.meta["config"]["num_heads"]
        pooler = AttentivePooler(width, heads, queries=queries, mlp_ratio=ratio, complete=complete)
        assert isinstance(pooler.cross_attention_block, CrossAttention) != complete
        pooler.load_state_dict(weights)
        agrees(pooler(recording["x"]), recording[f"{name}_out"])


def in_their_layout(recording) -> dict[str, torch.Tensor]:
    """The recorded weights by the recorded map of names."""
    weights, found = recording.below("weights/probe/"), {}
    for name, place in recording.meta["official_to_hf"].items():
        found[name] = weights[place["key"]][slice(*place.get("rows", (None,)))]
    return found


@pytest.mark.parametrize("eps", ["1e-6", "1e-5"])
def test_weights_of_transformers_give_its_numbers_with_its_eps(recording, agrees, eps):
    told = recording.meta["config"]
    about = {
        "hidden_size": told["embed_dim"], "num_attention_heads": told["num_heads"], "mlp_ratio": told["mlp_ratio"],
        "num_pooler_layers": told["depth"] - 1, "layer_norm_eps": float(eps),
    }  # fmt: skip
    probe = hf_probe.load_probe(in_their_layout(recording), about)
    agrees(probe(recording["x"]), recording[f"hf_logits_eps{eps}"])
    agrees(probe(recording["eps_probe_in"]), recording[f"hf_eps_probe_logits_eps{eps}"], tolerance=EPS)


def test_the_recorded_checkpoint_is_the_recorded_weights(recording, probe):
    file = recording.folder / f"{recording.name.replace('vjepa2_probe', 'vjepa2_ckpt_probe')}.pt"
    if not file.is_file():
        pytest.skip(f"there is no {file.name} beside the recording")
    held = load_probe(file, heads=recording.meta["config"]["num_heads"]).state_dict()
    assert all(torch.equal(held[name], value) for name, value in probe.state_dict().items())


def test_a_classifier_of_transformers_is_read_whole(tmp_path):
    """Encoder and probe of one folder give its logits."""
    transformers = pytest.importorskip("transformers")
    from worldflux import import_weights

    config = transformers.VJEPA2Config(
        crop_size=16, frames_per_clip=4, patch_size=8, hidden_size=24, num_attention_heads=2, num_hidden_layers=1,
        pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1, pred_num_mask_tokens=2,
        num_pooler_layers=1, num_labels=3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        theirs = transformers.VJEPA2ForVideoClassification(config).eval()
        video = torch.randn(2, 4, 3, 16, 16)
    theirs.save_pretrained(tmp_path)
    encoder = import_weights(tmp_path, importer="hf-vjepa2").observation_encoder
    with torch.no_grad():
        logits = hf_probe.load_probe(tmp_path)(encoder.tokens(video))
        assert (logits - theirs(video).logits).abs().max() <= 1e-5
