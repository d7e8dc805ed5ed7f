"""Who is trained on and who is tested: whole patients, in parts alike in their scores, as a pure function of table and seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from lus_lightning.errors import UserError
from lus_lightning.labels import SIGNS

UNITS: Final = ("patient", "clip", "frame")
STRATA: Final = ("score", "diagnosis")

_PAIRS: Final = 512
_FRUITLESS: Final = 12


@dataclass(frozen=True)
class Split:
    """How patients are divided; see `split_patients`.

    Args:
        test_share: share of the patients held out for the test (where `test_root` is given: none).
        val_share: share of the patients held out of training for validation.
        unit: `patient`; `clip` and `frame` leak patients across parts and exist only to measure what that buys.
        stratify: `score` (the patient's worst; where signs are learned, its signs) or `diagnosis`.
        test_patients: patients that are always in the test part.
        distinct: patients who are different people though their names look alike (`patients.look_alikes`).
        test_folds: for cross-validation, parts of which one after the other is tested, instead of `test_share`; 0 is none.
        test_fold: which of them is tested, from 0.
        seed: of the division; none is `seed_everything`'s.
    """

    test_share: float = 0.2
    val_share: float = 0.0
    unit: str = "patient"
    stratify: str = "score"
    test_patients: Sequence[str] = ()
    distinct: Sequence[str] = ()
    test_folds: int = 0
    test_fold: int = 0
    seed: int | None = None


def split_patients(
    table: pd.DataFrame, test_share: float, val_share: float, folds: int, seed: int | None,
    unit: str = "patient", stratify: str = "score", test_patients: Sequence[str] = (), labels: str = "score",
    test_folds: int = 0, test_fold: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Divide patients into test, validation and training, and the training patients into folds.

    Parts hold a fixed number of units (the share, rounded, at least one; folds differ by at most one unit) and are made alike in the units'
    worst score (or diagnosis) and in clips per score: dealt at random within strata, then exchanged while that brings the parts closer.
    Where signs are learned, and in tables without scores, the set of signs stands for the score. The order of the rows has no influence.

    A class (score, diagnosis, sign there or absent) that fewer units have than there are parts to be in is learned and not measured: all
    of its units are trained on. Where a cross-validation's folds need two units with a class and one has it, that unit lies in no fold
    (-1): every fold's network is trained on it, none predicts it out of fold. A network that never saw a class can only get it wrong, so
    such a prediction would say nothing of the method, and a selection by it would throw the class away. See `not_measured`.

    Args:
        table: `clip`, `patient`, `score`, `diagnosis`, signs; one row per clip, or per frame (with `frame`) for unit `frame`.
        test_share, val_share: of all units, 0 to below 1.
        folds: at least 2, or 0 or 1 for none.
        unit: `patient`, or by name `clip` or `frame`, which let a patient stand on two sides and only measure what that buys.
        stratify: `score` (a unit's worst) or `diagnosis`.
        test_patients: always in the test part.
        labels: what is learned, `score`, or `sign` or `signs`: then every part needs clips with and without each sign.
        test_folds, test_fold: test the one of so many parts of all units; the parts do not depend on which is tested. Such a part may lack
            a class, as all parts are measured together.

    Returns:
        `clip`, (`frame`), `patient`, `unit`, `split` ("train", "val", "test"), `fold` (in train 0 to folds - 1, or -1 where a unit is in
        no fold; else -1), one row per row of the table and in its order.

    Raises:
        UserError: an unknown choice or test patient, too few units, or a part (of training also: without any one fold) that lacks one of
            the classes (scores, diagnoses or signs) though enough units have it.
    """
    _check(table, test_share, val_share, unit, stratify, test_patients)
    if test_folds and (test_folds == 1 or not 0 <= test_fold < test_folds or len(test_patients)):
        raise UserError(
            f"fold {test_fold} of {test_folds} cannot be tested: folds are at least 2, counted from 0, and leave no patient to be named"
        )
    names = table["clip"] + "/" + table["frame"].map("{:06d}".format) if unit == "frame" else table[unit]
    features = _features(table, names, stratify, labels)
    rng = np.random.default_rng(seed)
    forced = features.index.isin(names[table["patient"].isin(list(test_patients))])
    held = [_held(share, len(features)) for share in (test_share, val_share)]
    folds = folds if folds > 1 else 0
    parts = [bool(test_folds or held[0] or forced.any()), held[1] > 0, True, folds > 0]  # of folds two units have a class, or more
    rare, kept, alone = _rare(features, forced, sum(parts), folds)
    if test_folds:
        forced[~kept] = _deal(features[~kept], _even(int((~kept).sum()), test_folds), rng) == test_fold
        held[0] = 0
    held[0] = max(held[0], int(forced.sum()))
    rest = len(features) - sum(held)
    if rest < max(folds + int(alone.sum()), int(kept.sum()), 1) or 0 < test_folds > (~kept).sum():
        told = f", and {int(kept.sum())} must be trained on as they alone have a class" if kept.any() else ""
        raise UserError(
            f"{len(features)} {unit}s are too few for {held[0]} in test, {held[1]} in validation and {folds or 1} fold(s) of the others"
            f"{told}; use fewer folds, smaller shares or more data"
        )
    part = np.full(len(features), 2)
    free = ~forced & ~kept
    sizes = [held[0] - int(forced.sum()), held[1], rest - int(kept.sum())]
    part[free] = _deal(features[free], sizes, rng, features[forced].to_numpy())
    part[forced] = 0
    fold = np.full(len(features), -1)
    if folds:
        dealt = (part == 2) & ~alone
        fold[dealt] = _deal(features[dealt], _even(int(dealt.sum()), folds), rng)
    _check_classes(features, part, fold, rare, bool(test_folds), unit)

    where = features.index.get_indexer(pd.Index(names))
    columns = ["clip", "frame", "patient"] if unit == "frame" else ["clip", "patient"]
    split = np.array(["test", "val", "train"], dtype=object)[part]
    return table[columns].assign(unit=unit, split=split[where], fold=fold[where]).reset_index(drop=True)


def _rare(features: pd.DataFrame, forced: np.ndarray, n_parts: int, folds: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Classes that fewer units have than there are parts; which units (N,) bool are trained on for one; which of these lie in no fold.

    Args:
        features: of `_features`.
        forced: units (N,) bool whose part is the test, whatever they show.
        n_parts: parts that are to have every class.
        folds: of the training part, 0 for none.
    """
    rare = [c for c in _classes(features) if 0 < (features[c] > 0).sum() < n_parts]
    single = [c for c in rare if folds and (features.loc[~forced, c] > 0).sum() == 1]
    kept, alone = ((features[some] > 0).any(axis=1).to_numpy() & ~forced for some in (rare, single))
    return rare, kept, alone


def _check(table: pd.DataFrame, test_share: float, val_share: float, unit: str, stratify: str, test_patients: Sequence[str]) -> None:
    if unit not in UNITS or stratify not in STRATA:
        raise UserError(
            f"a split has a unit of {', '.join(UNITS)} and is stratified by {' or '.join(STRATA)}, not {unit!r} by {stratify!r}"
        )
    if min(test_share, val_share) < 0 or test_share + val_share >= 1:
        raise UserError(f"the test share {test_share:g} and the validation share {val_share:g} must be 0 or more, and less than 1 together")
    if unknown := sorted(set(test_patients) - set(table["patient"])):
        raise UserError(
            f"no patient is called {', '.join(map(repr, unknown))}; name them as in the index, such as {table['patient'].min()!r}"
        )


def _held(share: float, units: int) -> int:
    return max(1, round(share * units)) if share > 0 else 0


def _even(units: int, parts: int) -> list[int]:
    return [units // parts + (i < units % parts) for i in range(parts)]


def _features(table: pd.DataFrame, names: pd.Series, stratify: str, learned: str) -> pd.DataFrame:
    """Per unit (sorted by name), what the parts should be alike in: clips, clips per class, and the stratum as 0 or 1."""
    labels = _labels(table, stratify, learned)
    units = labels.groupby(names.to_numpy()).sum()
    kind = next((str(c).split()[0] for c in units), "none")
    present = units.filter(regex=f"^{kind} ") > 0
    strata = [list(units.columns[: present.shape[1]][row]) for row in present.to_numpy(bool)]
    # Of several scores the worst names the stratum; of several diagnoses or signs, all of them.
    named = pd.Series([(s[-1] if kind == "score" else "+".join(s)) if s else "none" for s in strata], units.index)
    return pd.concat([units, pd.get_dummies(named, prefix="stratum", dtype=int)], axis=1).assign(clips=names.value_counts().sort_index())


def _labels(table: pd.DataFrame, stratify: str, learned: str) -> pd.DataFrame:
    """One column of 0 and 1 per class, such as `score 3`; what strata are made of comes first."""
    found = []
    if stratify == "diagnosis":
        if table["diagnosis"].isna().any():
            raise UserError(
                f"patient {table.loc[table['diagnosis'].isna(), 'patient'].iloc[0]!r} has no diagnosis; fill it in, or stratify by score"
            )
        found.append(pd.get_dummies(table["diagnosis"].astype(str), prefix="diagnosis", prefix_sep=" ", dtype=int))
    if learned == "score" and table["score"].notna().any():
        found.append(pd.get_dummies(table["score"].astype("Int64"), prefix="score", prefix_sep=" ", dtype=int))
    else:
        signs = {f"{word}{s}": table[s] == value for word, value in (("sign ", 1), ("absent ", 0)) for s in SIGNS if s in table}
        found.append(pd.DataFrame({name: there.fillna(False).astype(int) for name, there in signs.items() if there.any()}, table.index))
    return pd.concat(found, axis=1)


def _deal(features: pd.DataFrame, sizes: list[int], rng: np.random.Generator, first: np.ndarray | None = None) -> np.ndarray:
    """Part of each unit, (U,) int: `sizes[p]` units in part p, `first` (forced units' features) counted with part 0."""
    values = features.to_numpy(float)
    fixed = np.zeros((len(sizes), values.shape[1]))
    shares = np.array(sizes, float)
    if first is not None:
        fixed[0] = first.sum(axis=0)
        shares[0] += len(first)
    totals = values.sum(axis=0) + fixed.sum(axis=0)
    values, fixed = (v[:, totals > 0] / totals[totals > 0] for v in (values, fixed))
    want = np.where(np.array(sizes)[:, None] > 0, shares[:, None] / shares.sum(), fixed)
    classes = np.array([c in _classes(features) for c in features])[totals > 0]

    def cost(sums: np.ndarray) -> np.ndarray:
        """Squared distance from the wanted shares, and one for every class that a part with units lacks; sums (..., P, F)."""
        lacks = (sums[..., classes] <= 0) & (shares[:, None] > 0)
        return ((sums - want) ** 2).sum((-1, -2)) + lacks.sum((-1, -2))

    strata = features.filter(like="stratum").to_numpy().argmax(axis=1)
    order = np.lexsort((rng.random(len(values)), strata))
    # Parts take turns in proportion to their size, so every stratum is dealt evenly.
    turns = np.argsort(np.concatenate([(np.arange(s) + rng.random()) / s for s in sizes if s]), kind="stable")
    part = np.empty(len(values), int)
    part[order] = np.repeat(np.arange(len(sizes)), sizes)[turns]
    return _exchanged(part, values, fixed, cost, rng)


def _exchanged(
    part: np.ndarray, values: np.ndarray, fixed: np.ndarray, cost: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Units of two parts change places, the best of some random pairs at a time, until no pair of many lowers the cost."""
    sums = fixed + np.stack([values[part == p].sum(axis=0) for p in range(len(fixed))])
    fruitless = 0
    while fruitless < _FRUITLESS:
        a, b = rng.integers(len(values), size=(2, _PAIRS)) if len(values) else np.empty((2, 0), int)
        a, b = a[part[a] != part[b]], b[part[a] != part[b]]
        fruitless += 1
        if not len(a):
            continue
        moved = np.repeat(sums[None], len(a), axis=0)
        difference, rows = values[b] - values[a], np.arange(len(a))
        moved[rows, part[a]] += difference
        moved[rows, part[b]] -= difference
        costs = cost(moved)
        best = costs.argmin()
        if costs[best] < cost(sums) - 1e-9:
            part[a[best]], part[b[best]], sums, fruitless = part[b[best]], part[a[best]], moved[best], 0
    return part


def _classes(features: pd.DataFrame) -> list[str]:
    return [c for c in features.columns.astype(str) if c.startswith(("score ", "diagnosis ", "sign ", "absent "))]


def _check_classes(features: pd.DataFrame, part: np.ndarray, fold: np.ndarray, rare: list[str], pooled: bool, unit: str) -> None:
    """Refuse parts that lack a class: those measured on one that is not `rare`, unless all tests are `pooled`, and training any."""
    measured = {"validation part": part == 1} | ({} if pooled else {"test part": part == 0})
    # A fold may lack a class; a network trained on the other folds must have met every one.
    trained = {"training part": part == 2}
    trained |= {f"training part without fold {i}": (part == 2) & (fold != i) for i in range(fold.max() + 1)}
    for place, inside in (trained | measured).items():
        for name in _classes(features):
            if inside.any() and not features.loc[inside, name].any() and not (place in measured and name in rare):
                have = features.index[features[name] > 0]
                remedy = "give larger shares (split.test_share, split.val_share)" if place in measured else "use fewer folds"
                if (part[features[name] > 0] == 0).all():
                    remedy = f"leave some of {', '.join(map(repr, map(str, have[:3])))} out of split.test_patients"
                raise UserError(
                    f"the {place} ({inside.sum()} of {len(features)} {unit}s) has nobody with {_named(name)}, which {len(have)} have;"
                    f" {remedy}, or take another seed (split.seed)"
                )


def not_measured(table: pd.DataFrame, split: pd.DataFrame, stratify: str, labels: str) -> list[str]:
    """Sentences on the classes that are trained on and that a part to be measured lacks; those of diagnoses have no figures to leave out.

    Args:
        table, stratify, labels: as in `split_patients`.
        split: what it gives, or an earlier division of the same table.
    """
    keys = ["clip", "frame"] if "frame" in split else ["clip"]
    whole = table.merge(split[[*keys, "unit", "split", "fold"]], on=keys)
    unit = "patient" if whole.empty else str(whole["unit"].iloc[0])
    names = whole["clip"] + "/" + whole["frame"].map("{:06d}".format) if unit == "frame" else whole[unit]
    features = _features(whole, names, stratify, labels)
    where = whole.assign(name=names).drop_duplicates("name").set_index("name").loc[features.index]
    trained = (where["split"] == "train").to_numpy()
    places = {f"{word} {unit}s": (where["split"] == part).to_numpy() for part, word in (("test", "test"), ("val", "validation"))}
    places["out-of-fold predictions"] = trained & (where["fold"] >= 0).to_numpy()
    told = []
    for name in _classes(features):
        has = (features[name] > 0).to_numpy()
        lacking = [place for place, inside in places.items() if inside.any() and not (inside & has).any()]
        if not lacking or not (trained & has).any():
            continue
        who = list(map(str, features.index[has]))
        shown, named = ", ".join(who[:3] + ["..."] * (len(who) > 3)), _named(name)
        told.append(
            f"{named[0].upper()}{named[1:]} is learned but not measured among the {' and '.join(lacking)}: of {len(features)} {unit}s only"
            f" {len(who)} {'has' if len(who) == 1 else 'have'} it ({shown}), and {'is' if len(who) == 1 else 'are'} trained on."
        )
    return told


def _named(name: str) -> str:
    """A class in words."""
    kind, _, value = name.partition(" ")
    return {"sign": value, "absent": f"the absence of {value}"}.get(kind, name)
