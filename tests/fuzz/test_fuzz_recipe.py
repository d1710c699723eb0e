"""Recipes and --set words of any kind: read or refused, never run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fuzz_tools import (
    ODD,
    SMALL,
    SMALL_DATA,
    Outcomes,
    damaged,
    examples,
    reset,
    respelled,
    run,
    scratched,
    server,
)
from hypothesis import given
from hypothesis import strategies as st

TRAP = b"import os\nos.mkdir('sprung')\ndef spring(*words, **more):\n    raise SystemExit\n"
"""A module whose import leaves a folder."""
SHIPPED = (Path(__file__).parents[2] / "recipes" / "glyphs.yaml").read_text()
SMALL_SHIPPED = SHIPPED.replace("train_images: 10000", "train_images: 100").replace(
    "test_images: 2000", "test_images: 100"
)
ANCHORS = """schema: 1
data: &d {name: glyphs, size: 8, classes: 4, train_images: 48, test_images: 16}
train: &t {epochs: 1, batch_size: 16}
teach: {model: {name: resnet8, width: 2}, train: *t}
distill: {model: {name: resnet8, width: 2, T: 2}, train: *t, data: *d, loss: kl}
"""
TERMS = """schema: 1
stage: distill
data: {name: glyphs, size: 8, classes: 4, train_images: 48, test_images: 16}
model: {name: resnet8, width: 2, T: 2}
train: {epochs: 1, batch_size: 16}
loss:
  name: custom
  hard: {target: step, weight: 0.5, weight_end: 0.1}
  terms:
  - {divergence: hta-kl, temperature: 2.0, delta: 0.5, head: cover}
  - {divergence: akl, target: step, against: other-steps}
  - {divergence: dist, beta: 1.0, gamma: 2.0, warmup: 0.5}
  - {penalty: threshold, level: 1.0}
  - {penalty: confidence, temperature: 3.0}
  - {feature: mse, student: [stage1, output], teacher: [stage1, output]}
  - {feature: blurred, drop: 0.1}
"""
LOSS_WORDS = [
    {"divergence": "kl", "penalty": "confidence"}, {"feature": "mse", "divergence": "kl"}, {"feature": "mse", "student": ["stage9"]},
    {"feature": "classifier", "teacher": ["stage1"]}, {"divergence": "kll"}, {"divergence": "trap_module:spring", "options": {"a": 1}},
    {"penalty": "trap_module:spring"}, {"feature": "trap_module:spring"}, {"feature": "saliency", "student": "stage1"}, {"divergence": None},
    "step", "strong", "other-steps", "stage1", "class_map", ["stage1"], "trap_module:spring", "os:system", "teacher", "resnet19", "best",
]  # fmt: skip
TOKENS = [
    b"&a ", b"*a", b"&d ", b"*d", b"<<: *t\n", b"!!python/object/apply:os.mkdir [sprung]", b"!!python/name:os.system ", b"!!binary ", b"!x ",
    b"!!set {a}", b"\t", b": ", b"- ", b"? ", b"{", b"}", b"[", b"]", b"'", b'"', b"|\n", b">\n", b"---\n", b"...\n", b"%YAML 1.1\n", b"# ",
    b"%TAG ! tag:x,2000:\n", b"\x00", b"\xef\xbb\xbf", "\u202e".encode(), b"\xe9", b"\xff\xfe", b'"\\ud800"', b'"\\U0010ffff"', b"=", b"\\",
    b"\xc2\x85", b"\xe2\x80\xa8", b"\r", b"\r\n", b".nan", b"-.inf", b"9" * 300, b"1e999", b"\x1b[2J", b"[" * 30, b"seed: 1\n", b"x" * 2500,
]  # fmt: skip


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """The shipped recipe and others in full, as `check` prints them."""
    folder = reset(
        server().folder(),
        {"s.yaml": SMALL_SHIPPED.encode(), "t.yaml": TERMS.encode(), "a.yaml": ANCHORS.encode()},
    )
    made = []
    for name in ("s.yaml", "t.yaml", "a.yaml"):
        ended = run(folder, "check", name)
        assert ended.code == 0, ended.err
        made.append(ended.out)
    return made


def bases(printed: list[str]) -> list[dict]:
    return [yaml.safe_load(text) for text in (SMALL_SHIPPED, TERMS, ANCHORS, *printed)]


def test_recipes_of_the_wrong_shape(printed):
    outcomes, folder = Outcomes("recipes of the wrong shape", yaml.safe_load), server().folder()

    @examples(100)
    @given(damaged(bases(printed), extra=LOSS_WORDS), st.booleans(), st.sampled_from([[], [], ["--json"]]))
    def each(document, flow, more):
        content = yaml.safe_dump(
            document, allow_unicode=flow, default_flow_style=flow, sort_keys=False
        ).encode("utf-8", "surrogatepass")
        reset(folder, {"r.yaml": content, "trap_module.py": TRAP})
        outcomes.add(content, run(folder, "check", "r.yaml", *more))

    each()
    outcomes.close()
    assert outcomes.codes[0] > 1
    assert outcomes.codes[2] > 20


def test_recipes_with_damaged_bytes(printed):
    outcomes, folder = Outcomes("recipes with damaged bytes", yaml.safe_load), server().folder()

    whole = [text.encode() for text in (SMALL_SHIPPED, TERMS, ANCHORS, printed[0])]

    @examples(80)
    @given(scratched(whole, TOKENS, most=1) | respelled(whole))
    def each(content):
        reset(folder, {"r.yaml": content, "trap_module.py": TRAP})
        outcomes.add(content, run(folder, "check", "r.yaml"))

    each()
    outcomes.close()
    assert outcomes.codes[3] > 2


def test_recipes_that_teach_and_distill_refuse(printed):
    """Documents in which at least one value is wrong for certain, so that nothing is trained."""
    outcomes, folder = Outcomes("recipes for teach and distill", yaml.safe_load), server().folder()

    @examples(15)
    @given(damaged(bases(printed), extra=LOSS_WORDS), st.sampled_from(["teach", "distill", "run"]))
    def each(document, command):
        document["schema"] = 7
        content = yaml.safe_dump(document).encode("utf-8", "surrogatepass")
        reset(folder, {"r.yaml": content, "trap_module.py": TRAP})
        ended = run(folder, command, "./r.yaml")
        assert ended.code in (2, 3)
        outcomes.add(content, ended)

    each()
    outcomes.close()


NASTY = {
    "empty": b"",
    "nul": b"\0" * 100,
    "utf16": "schema: 1".encode("utf-16"),
    "latin1": "schema: 1\nstage: teach # é".encode("latin-1"),
    "bom": b"\xef\xbb\xbfschema: 1\nstage: teach\nseed: x",
    "open-flow": b"a: " + b"[" * 50_000,
    "open-map": b"a: " + b"{a: " * 50_000,
    "dashes": b"- " * 50_000,
    "questions": b"? " * 50_000,
    "many-keys": b"".join(b"k%d: 1\n" % i for i in range(30_000)),
    "one-long-key": b"k" * 900_000 + b": 1",
    "one-long-value": b"seed: " + b"9" * 900_000,
    "hex": b"seed: 0x" + b"f" * 1990,
    "bomb": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
    "merge-bomb": b"a: &a {x: 1}\n"
    + b"".join(
        b"%c: &%c {<<: [%s]}\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(9)
    ),
    "self": b"a: &a [*a]",
    "self-merge": b"a: &a {<<: *a}",
    "no-anchor": b"a: *none",
    "merge-number": b"a: {<<: 1}",
    "merge-list": b"<<: [1, 2]\nstage: teach",
    "list-key": b"? [a]\n: 1",
    "map-key": b"{{a: 1}: 2}",
    "value-tag": b"a: =",
    "value-key": b"=: 1",
    "bool-key": b"yes: 1",
    "nan-key": b".nan: 1",
    "escape-surrogate": b'seed: "\\ud800"',
    "escape-nul": b'data: "npz:\\0"',
    "object": b"a: !!python/object/apply:os.mkdir [sprung]",
    "object-new": b"a: !!python/object/new:os.mkdir [sprung]",
    "module": b"a: !!python/module:trap_module",
    "name": b"a: !!python/name:trap_module.spring",
    "verbatim": b"a: !<tag:yaml.org,2002:python/object/apply:os.mkdir> [sprung]",
    "handle": b"%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.mkdir [sprung]",
    "tagged-key": b"!!python/object/apply:os.mkdir [sprung]: 1",
    "tagged-root": b"!!python/object/apply:os.mkdir [sprung]",
    "directive": b"%YAML 9.9\n---\na: 1",
    "two-documents": b"schema: 1\n---\nschema: 1",
    "tab": b"teach:\n\tmodel: 1",
    "bidi": "stage: teach\ndata: {name: \u202eglyphs}".encode(),
    "loss-code": b"stage: distill\nloss: trap_module:spring",
    "loss-term-code": b"stage: distill\nloss: {terms: [{divergence: trap_module:spring}]}",
    "model-code": b"stage: teach\nmodel: trap_module:spring",
    "data-code": b"stage: teach\ndata: {name: trap_module:spring}",
}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_recipes_are_refused(name):
    folder = reset(server().folder(), {"r.yaml": NASTY[name], "trap_module.py": TRAP})
    for words in (["check", "r.yaml"], ["distill", "./r.yaml"]):
        ended = run(folder, *words)
        assert ended.code in (2, 3), ended
        assert len(ended.line) < 5000, "a message is a line, not the file"


def test_the_trap_would_spring_where_code_is_allowed():
    folder = reset(server().folder(), {"r.yaml": NASTY["model-code"], "trap_module.py": TRAP})
    server().call(folder, "check", "r.yaml", "--code", "trap_module:spring")
    assert (folder / "sprung").exists()


def test_anchors_are_legal():
    folder = reset(server().folder(), {"r.yaml": ANCHORS.encode()})
    made = yaml.safe_load(run(folder, "check", "r.yaml").out)
    assert made["teach"]["train"]["batch_size"] == made["distill"]["train"]["batch_size"] == 16
    assert made["distill"]["data"]["size"] == 8


KEYS = [
    "seed", "data", "data.name", "data.classes", "data.noise", "data.augment", "data.augment.0", "model", "model.T", "model.width", "train",
    "train.lr", "train.epochs", "train.select", "loss", "loss.terms", "loss.terms.0", "loss.terms.0.delta", "loss.terms.9", "loss.terms.x",
    "loss.terms.0.divergence", "loss.hard", "loss.hard.weight", "loss.name", "loss.x", "neuron.tau", "teacher", "teacher.run", "execution",
    "execution.device", "stage", "schema", "teach", "distill", "distill.loss", "distill.loss.terms.0.head", "eval.T", "export.formats.0",
    "", ".", "..", "a..b", ".seed", "seed.", "seed.x", "x", "é", "\u202e", "sweep", "loss.terms.-1", "loss.terms.1e9", "loss.terms.٣", "distill.x",
]  # fmt: skip


def test_settings():
    outcomes, folder = (
        Outcomes("--set words", lambda content: yaml.safe_load(content.decode().split("=", 1)[1])),
        server().folder(),
    )
    reset(folder, {"r.yaml": SMALL_SHIPPED.encode(), "t.yaml": TERMS.encode(), "trap_module.py": TRAP})
    plain = [value for value in ODD if not (isinstance(value, str) and set(value) & set("\0\ud800"))]
    written = st.sampled_from([*plain, *LOSS_WORDS]).map(
        lambda value: yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    )
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
    raw = st.sampled_from([b.decode("utf-8", "ignore").replace("\0", "") for b in TOKENS if len(b) < 1000])
    value = st.integers(0, 9).flatmap(lambda i: written if i < 7 else text | raw | odd)
    odd = st.text("ab:-[]{}&*!<>?#'\"|, 1.~=", max_size=12)
    word = st.integers(0, 9).flatmap(
        lambda i: st.tuples(st.sampled_from(KEYS), value).map("=".join) if i < 8 else text
    )

    @examples(45)
    @given(st.lists(word, min_size=1, max_size=3), st.sampled_from(["r.yaml", "t.yaml"]))
    def each(settings, recipe):
        words = [part for setting in settings for part in ("--set", setting)]
        # what a setting names on the command line may run: that is what it is for
        if not any("trap_module:" in setting or "os:" in setting for setting in settings):
            outcomes.add(settings[0].encode(), run(folder, "check", recipe, *words))

    each()
    outcomes.close()


FLAGS = [
    "--T",
    "--temperature",
    "--loss",
    "--data",
    "--model",
    "--epochs",
    "--batch-size",
    "--lr",
    "--seed",
    "--device",
    "--max-time",
    "--teacher",
]


def test_flags():
    """`--epochs 0` at the end: whatever the other flag does, nothing is trained."""
    folder = server().folder()
    plain = [str(value) for value in ODD if not (isinstance(value, str) and set(value) & set("\0\ud800"))]
    seen = set()

    @examples(45)
    @given(
        st.sampled_from(FLAGS),
        st.sampled_from(
            [*plain, "1", "-1", "nan", "kl:", "npz:", "glyphs:x", "cuda:-1", "1-1:00:00", "99999999h", "٣"]
        ),
    )
    def each(flag, value):
        if value not in ("trap_module:spring", "os:getcwd"):
            ended = run(folder, "distill", *SMALL, flag, value, "--set", "train.epochs=0")
            assert ended.code in (2, 3), ended
            seen.add(ended.line[:40])

    each()
    assert len(seen) > 5
    assert SMALL_DATA in SMALL
