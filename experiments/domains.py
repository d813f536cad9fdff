"""Does the studio tell prompts that a model knows from those it does not? Shares of prompts that it doubts.

    python -m experiments.domains

A prompt is doubted as a whole (it asks for something else), in a word, or not at all. The thresholds of
`engine.models.domain` and of the models' `model.json` were chosen on the tuning prompts and the single words; the
reporting prompts and the sentences are others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import engine
from engine.models.domain import doubt, likeness, share_unknown
from engine.models.languages import language_of
from engine.models.table import find_row
from experiments import options, prompts
from experiments.prompts import elsewhere, reporting, tuning

MODELS = ("avatars", "fashion", "mosaic")
QUICK = {"prompts": 2}


def sets_of(model: str) -> dict[str, Sequence[str]]:
    """Prompts of the model's own domain, and of others."""
    others: dict[str, Sequence[str]] = {"single words": elsewhere.WORDS, "sentences": elsewhere.SENTENCES}
    if model == "mosaic":
        own: dict[str, Sequence[str]] = {
            split: [t for ts in prompts.mosaic_captions(split)[0].values() for t in ts]
            for split in ("tuning", "reporting")
        }
        return {**own, **others}
    if model == "fashion":
        people = [prompt.text for prompt in reporting.AVATARS]
        return {"tuning": list(tuning.FASHION), "reporting": list(reporting.FASHION), **others, "people": people}
    splits = {"tuning": tuning.AVATARS, "reporting": reporting.AVATARS}
    return {**{name: [prompt.text for prompt in split] for name, split in splits.items()}, **others}


def foreign() -> dict[str, Sequence[str]]:
    """Prompts in other languages."""
    sets = {"other languages": elsewhere.FOREIGN, "other languages, short": elsewhere.FOREIGN_SHORT}
    return {name: [text for texts in found.values() for text in texts] for name, found in sets.items()}


def rows_of(model: str, most: int | None) -> list[str]:
    """A line of the table for each set of prompts."""
    generator = engine.load_generator(model)
    prompt_model = engine.load_prompt_model(find_row(model, "generator").prompt_model or "clip-mini")
    lines = []
    for name, texts in (sets_of(model) | foreign()).items():
        texts = texts[:most]
        doubts = [doubt(text, generator, prompt_model) for text in texts]
        whole = sum(bool(one and one.is_outside) for one in doubts) / len(texts)
        part = sum(bool(one and not one.is_outside) for one in doubts) / len(texts)
        unknown = sum(share_unknown(text, prompt_model) for text in texts) / len(texts)
        near = sorted(one for text in texts if (one := likeness(text, generator, prompt_model)) is not None)
        spread = f"{near[0]:.2f}, {near[len(near) // 2]:.2f}, {near[-1]:.2f}" if near else "-"
        shares = " | ".join(f"{100 * share:.0f} %" for share in (whole, part, unknown))
        lines.append(f"| {model} | {name} ({len(texts)}) | {shares} | {spread} |")
    return lines


def languages() -> str:
    """How many prompts of each language are known as such, and how many English ones are taken for another."""
    told = []
    for name in elsewhere.FOREIGN | elsewhere.FOREIGN_SHORT:
        texts = [*elsewhere.FOREIGN.get(name, ()), *elsewhere.FOREIGN_SHORT.get(name, ())]
        told.append(f"{name} {sum(name in (language_of(text) or '') for text in texts)} of {len(texts)}")
    english = [text for model in MODELS for texts in sets_of(model).values() for text in texts]
    wrong = [text for text in english if language_of(text)]
    return (
        f"Languages: {', '.join(told)}; of {len(english)} English prompts {len(wrong)} are taken for another language."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, help="use only the first so many of each set")
    parser.add_argument("--out", type=Path, help="also write the table there")
    arguments = options.parse(parser, QUICK)
    engine.set_threads(None)
    lines = [
        "| model | prompts | doubted | in a word | unknown words | likeness (least, median, most) |",
        "|---|---|---|---|---|---|",
    ]
    for model in MODELS:
        lines += rows_of(model, arguments.prompts)
    text = "\n".join([*lines, "", languages()])
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
