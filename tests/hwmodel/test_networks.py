"""Workloads of networks: published totals to the digit, and laws of training steps."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hwmodel.errors import UserError
from hwmodel.models import MODELS, model_named
from hwmodel.networks import (
    DecoderConfig,
    EncoderDecoderConfig,
    MLPConfig,
    SwinV2Config,
    ViTConfig,
    inference,
    parameters,
    plan_of,
    train_step,
    training_run,
    weights,
)
from hwmodel.nodes import POINTWISE
from hwmodel.pattern import DENSE, FanIn, Pattern, Unstructured
from hwmodel.workload import Elementwise, Plan, SitePlan

# built here, not by a strategy: the type checks of the tests draw random numbers, which strategies may not
CONFIGS = [
    *(MLPConfig(inputs=inputs, width=7, depth=depth) for inputs in (1, 9) for depth in (1, 3)),
    *(ViTConfig(depth=depth, pool=pool, bias=depth == 1) for depth in (1, 2) for pool in ("mean", "class")),
    *(
        DecoderConfig(depth=1, kv_heads=kv_heads, activation=activation, position=position, tied_embeddings=tied)
        for kv_heads in (0, 1, 2)
        for activation in ("gelu", "swiglu")
        for position in ("learned", "rotary", "relative")
        for tied in (True, False)
    ),
    *(EncoderDecoderConfig(depth=depth) for depth in (1, 2)),
    SwinV2Config(image=32, patch=2, width=8, depths=(1, 1), heads=(2, 2), window=4, classes=3),
]
configs = st.sampled_from(CONFIGS)
STRUCTURES = (DENSE, Pattern(2, 4), Pattern(1, 8), FanIn(0.25), Unstructured(0.1))
plans = st.sampled_from(
    [SitePlan(fprop=f, dgrad=d, wgrad=w) for f in STRUCTURES for d in STRUCTURES for w in STRUCTURES]
)


@pytest.mark.parametrize(
    ("name", "tokens", "macs"),
    [  # multiply-adds of the products alone, from the models' published shapes
        ("vit-b", 197, 17_563_828_224),
        ("vit-ti", 197, 1_253_683_200),
        ("vit-s", 197, 4_598_882_304),
        ("vit-l", 197, 61_554_712_576),
        ("swin-v2-b", 4096, 20_325_134_336),
        ("swin-v2-t", 4096, 5_939_690_496),
        ("bert-base", 128, 11_174_215_680),
        ("bert-base", 384, 35_332_816_896 + 589_824),
        ("bert-base", 512, 48_318_382_080 + 589_824),
        ("t5-base", 512, 128_597_360_640),
        ("t5-base", 128, 29_431_431_168),
        ("gpt2-small", 1024, 145_824_153_600),
        ("llama-7b", 1, 6_607_339_520),
        ("llama-7b", 128, 850_000_871_424),
        ("llama-7b", 2048, 14_630_806_093_824),
        ("llama-7b", 4096, 31_460_635_443_200),
    ],
)
def test_multiply_adds_of_public_models_are_the_published_ones(name, tokens, macs):
    assert inference(MODELS[name], 1, tokens=tokens).macs == macs


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit-b", 86_567_656),
        ("bert-base", 109_482_240),
        ("t5-base", 222_903_552),
        ("gpt2-small", 124_337_664),
        ("llama-7b", 6_738_415_616),
    ],
)
def test_parameters_of_public_models_are_the_published_ones(name, count):
    assert parameters(MODELS[name]) == count


def test_swin_keys_have_no_bias():
    with_key_bias = 87_930_848  # torchvision stores one that it holds at zero
    assert with_key_bias - parameters(MODELS["swin-v2-b"]) == 2 * 128 + 2 * 256 + 18 * 512 + 2 * 1024


def test_two_of_four_halves_the_block_products_of_llama():
    config = model_named("llama-7b")
    plan = plan_of(config, {"block*": SitePlan(fprop=Pattern(2, 4))})
    assert inference(config, 1, tokens=128, plan=plan).macs == 435_536_527_360


@given(st.sampled_from([c for c in CONFIGS if isinstance(c, DecoderConfig)]), st.integers(1, 3), st.integers(1, 4))
def test_decoding_attends_to_everything_before(config, batch, tokens):
    step = inference(config, batch, tokens=tokens, context=5, phase="decode")
    scores = step.at("block0.attn.scores")
    assert scores.macs == batch * config.width * sum(5 + i + 1 for i in range(tokens))
    assert step.at("head").macs == batch * tokens * config.width * config.vocab


def test_a_decoder_of_a_pair_does_not_encode_again():
    decode = inference(EncoderDecoderConfig(), 2, tokens=3, phase="decode")
    assert len(decode.at("encoder.*")) == 0
    assert len(decode.at("decoder.block0.cross.k")) == 0


@given(configs, st.integers(1, 3))
def test_training_takes_three_times_the_forward_products_less_the_first_input_gradient(config, batch):
    step, forward = train_step(config, batch, tokens=config.tokens), inference(config, batch, tokens=config.tokens)
    without_dgrad = {"patch", "layer0"} | {site for site in weights(config) if site.endswith("position.up")}
    skipped = sum(forward.at(site).macs for site in without_dgrad)
    assert step.macs == 3 * forward.macs - skipped


@given(configs, plans, st.integers(1, 2))
def test_a_plan_changes_densities_and_never_shapes(config, plan, batch):
    sites = {site: plan for site, (_, d_in) in weights(config).items() if d_in % 8 == 0}
    dense, sparse = (train_step(config, batch, p, tokens=config.tokens) for p in (Plan(), Plan(sites)))
    assert [(g.site, g.phase, g.dense_macs) for g in dense.gemms] == [
        (g.site, g.phase, g.dense_macs) for g in sparse.gemms
    ]
    assert sparse.macs <= dense.macs


@given(configs, st.integers(1, 4))
def test_work_grows_in_proportion_to_the_batch_except_for_what_weights_alone_decide(config, batch):
    one, many = (inference(config, b, tokens=config.tokens) for b in (1, batch))
    fixed = one.at("*.position.*").macs  # Swin's position network sees windows, not images
    assert many.macs - fixed == batch * (one.macs - fixed)


def test_masks_and_compressed_copies_are_part_of_a_sparse_step():
    config = ViTConfig()
    sites = {"block0.mlp.up": SitePlan(fprop=Pattern(2, 4), dgrad=Pattern(2, 4), dgrad_axis=0)}
    step = train_step(config, 1, Plan(sites, frozenset({"block0.mlp.up"})), tokens=config.tokens)
    kinds = [op.kind for op in step.at("block0.mlp.up") if isinstance(op, Elementwise)]
    assert kinds[:3] == ["select", "compress", "compress"]
    same = SitePlan(fprop=Pattern(2, 4), dgrad=Pattern(2, 4))
    once = train_step(config, 1, Plan({"block0.mlp.up": same}), tokens=config.tokens).at("block0.mlp.up")
    assert [op.kind for op in once if isinstance(op, Elementwise)].count("compress") == 1


def test_the_optimiser_sees_every_parameter_once():
    config = DecoderConfig()
    update = train_step(config, 2, tokens=8).at("optimizer").ops[0]
    assert update.elements == parameters(config)
    assert update.bytes_moved == POINTWISE["adamw"].streams * 4 * parameters(config)


@given(configs, st.lists(st.sampled_from([Pattern(1, 2), DENSE]), min_size=1, max_size=4))
def test_a_run_is_the_sum_of_its_steps(config, patterns):
    site = next(iter(weights(config)))
    taken = [Plan({site: SitePlan(fprop=pattern)}) for pattern in patterns]
    run = training_run(config, 1, [(plan, 1) for plan in taken], tokens=config.tokens)
    assert run.macs == sum(train_step(config, 1, plan, tokens=config.tokens).macs for plan in taken)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ViTConfig(image=(28, 28), patch=(5, 5)), "image = 28 is not a multiple of patch = 5"),
        (lambda: DecoderConfig(width=65), "width = 65 is not a multiple of heads = 4"),
        (lambda: DecoderConfig(depth=0), "depth = 0"),
        (lambda: DecoderConfig(ff_width=-1), "ff_width = -1: needs at least 0"),
        (lambda: DecoderConfig(ff_width=10**20), "needs at most 2147483647"),
        (lambda: DecoderConfig(dropout=1.0), "dropout = 1"),
        (lambda: DecoderConfig(heads=4, kv_heads=3), "heads = 4 is not a multiple of kv_heads = 3"),
        (lambda: SwinV2Config(depths=(2, 2)), "one number of each a stage"),
        (lambda: inference(MLPConfig(), 0, tokens=1), "batch = 0"),
        (lambda: plan_of(ViTConfig(), {"*.ffn.*": SitePlan()}), "matches no site"),
        (lambda: model_named("vit-x"), "did you mean vit-"),
    ],
)
def test_a_wrong_size_is_named(make, said):
    with pytest.raises(UserError, match=said.replace("*", r"\*").replace("(", r"\(")):
        make()


def test_mnist_1d_is_ten_tokens_of_four_values():
    config = ViTConfig(image=(1, 40), patch=(1, 4))
    assert (config.tokens, config.patch_width) == (10, 4)


@given(
    st.sampled_from([c for c in CONFIGS if isinstance(c, DecoderConfig | EncoderDecoderConfig)]),
    st.integers(1, 4),
    st.integers(0, 5),
    plans,
)
def test_decoding_is_one_position_after_another(config, tokens, context, plan):
    """Every site and kind does what its positions, each decoded alone, do together."""
    plan = Plan({"block0.mlp.up": plan})

    def parts(work):
        found = {}
        for op in work:
            key, size = (op.site, type(op), *op.sizes), op.times
            found[key] = found.get(key, 0) + size
        return found

    together = inference(config, 2, tokens=tokens, context=context, phase="decode", plan=plan)
    alone = (inference(config, 2, tokens=1, context=context + i, phase="decode", plan=plan).ops for i in range(tokens))
    assert parts(together) == parts(op for ops in alone for op in ops)


def test_decoding_thousands_of_positions_makes_each_operand_once():
    """The sizes of a position are worked out once, however many blocks there are."""
    work = inference(MODELS["llama-7b"], 1, tokens=64, phase="decode", bits=16)
    scores = work.at("*.attn.scores").gemms
    assert len(scores) == 32 * 64
    assert len({id(gemm.b) for gemm in scores}) == 64


def layernorms(work):
    """Operations of the norms, five an element, which timm adds to its multiply-adds."""
    return sum(op.flops for op in work if isinstance(op, Elementwise) and op.kind == "layernorm")


@pytest.mark.parametrize(
    ("name", "whole", "without_attention"),
    [  # timm: 17.58 and 16.87 GMACs of ViT-Base, 1.26 and 1.08 of ViT-Tiny; 61.6 and 59.7 of ViT-Large
        ("vit-b", 17_582_740_224, 16_867_412_736),
        ("vit-ti", 1_258_411_200, 1_079_579_328),
        ("vit-s", 4_608_338_304, 4_250_674_560),
        ("vit-l", 61_604_135_936, 59_696_595_968),
    ],
)
def test_timm_counts_norms_and_where_attention_is_fused_no_attention(name, whole, without_attention):
    work = inference(MODELS[name], 1, tokens=197)
    attention = sum(work.at(site).macs for site in ("*.scores", "*.attend"))
    assert work.macs + layernorms(work) == whole
    assert work.macs - attention + layernorms(work) == without_attention


@pytest.mark.parametrize(
    ("name", "tokens", "parts"),
    [  # multiply-adds by part, from the published shapes
        ("vit-b", 197, {"patch": 115_605_504, "block0.*": 1_453_954_560, "block11.*": 1_453_954_560, "head": 768_000}),
        ("swin-v2-b", 4096, {"*.position.*": 48_844_800}),
        ("swin-v2-t", 4096, {"*.position.*": 18_662_400}),
        ("bert-base", 128, {"pooler": 589_824, "block*": 11_173_625_856}),
        ("t5-base", 512, {"encoder.*": 48_318_382_080, "decoder.*": 67_645_734_912, "head": 12_633_243_648}),
        ("gpt2-small", 1024, {"block*": 106_300_440_576, "head": 39_523_713_024, "block0.*": 17_716_740_096 // 2}),
        (
            "llama-7b",
            128,
            {"block*": 828_928_688_128 + 4_294_967_296, "*.attn.scores": 4_294_967_296 // 2, "head": 16_777_216_000},
        ),
    ],
)
def test_multiply_adds_by_part(name, tokens, parts):
    work = inference(MODELS[name], 1, tokens=tokens)
    assert {glob: work.at(glob).macs for glob in parts} == parts


def test_flops_are_twice_the_multiply_adds_and_training_three_times_the_forward_ones():
    """nanoGPT prints exactly these for GPT-2 small; PaLM's formula, 6 N + 12 L H Q T a token, gives 875,062,886,400."""
    config = MODELS["gpt2-small"]
    assert sum(gemm.flops for gemm in inference(config, 1, tokens=1024).gemms) == 291_648_307_200
    assert 2 * train_step(config, 1, tokens=1024).macs == 874_944_921_600
    counted = parameters(config) - config.context * config.width  # without positions, as nanoGPT counts
    assert 1024 * (6 * counted + 12 * config.depth * config.width * 1024) == 875_062_886_400
