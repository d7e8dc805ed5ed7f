"""From frames to clips, zones and exams, on any method's predictions table."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from lus_lightning.errors import UserError

LEVELS = ("frame", "clip", "zone", "exam")
ZONE_RULES = ("worst", "pooled")

_WHO = ["split", "member", "sign", "patient", "exam"]
_KEYS = {"clip": [*_WHO, "protocol", "zone", "clip"], "zone": [*_WHO, "protocol", "zone"], "exam": _WHO}


def _most_severe_argmax(values: np.ndarray) -> np.ndarray:
    """(N, C) -> (N,) the class of the largest value; of equal ones the more severe."""
    return values.shape[1] - 1 - np.nan_to_num(values, nan=-1.0)[:, ::-1].argmax(axis=1)


def _highest(there: np.ndarray) -> np.ndarray:
    """(N, C) bool -> (N,) the highest class that is there, -1 for none."""
    return np.where(there, np.arange(there.shape[1]), -1).max(axis=1)


def _first_argmax(values: np.ndarray) -> np.ndarray:
    """(N, C) -> (N,) the class of the largest value; of equal ones the first."""
    return np.nan_to_num(values, nan=-1.0).argmax(axis=1)


def _only(votes: np.ndarray) -> np.ndarray:
    """(N, C) -> (N,) the most frequent class, -1 where two are as frequent: a clip with two signs has no single one."""
    most = votes == votes.max(axis=1, keepdims=True)
    return np.where(most.sum(axis=1) == 1, votes.argmax(axis=1), -1)


# Each rule takes votes (N, C), the frames of each class, and their number (N,), and gives the unit's class, -1 where nobody voted.
RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "majority": lambda votes, _: np.where(votes.any(axis=1), _most_severe_argmax(votes), -1),  # Raillard et al., Fig. 4
    "worst": lambda votes, _: _highest(votes > 0),
    "one_percent": lambda votes, frames: _highest((100 * votes >= frames[:, None]) & (votes > 0)),  # Muñoz et al., "Evaluation Metrics"
}
RULE_NAMES = ("mean", *RULES)


def aggregate(predictions: pd.DataFrame, level: str, rule: str = "mean", zone_rule: str = "worst", ordered: bool = True) -> pd.DataFrame:
    """One row per unit of the level, for each member, split and sign.

    Frames become clips by `rule`: `mean` (class of the highest mean probability), `majority` (the most frequent prediction),
    `worst` (the highest), `one_percent` (the highest that at least 1 % of the frames that did not abstain, and at least one, have;
    Muñoz et al.). Ties go to the more severe. Targets follow the same rule (`mean`: the most frequent). A frame that abstained has no
    voice, a unit whose frames all abstained abstains; a unit of one frame keeps that frame's prediction. `p_*` is the mean over frames
    whatever the rule.

    Several clips of a zone are one zone: `zone_rule` `worst` (the worst clip) or `pooled` (`rule` over the frames of all of them).
    An exam is its worst zone, with that zone's `p_*`, and its sums over zones; clips without a zone enter the worst and no sum.
    From clips to zones and from zones to exams, what has no target is left out where something beside it has one.

    Args:
        predictions: the predictions table (any subset of its rows).
        level: `frame`, `clip`, `zone` or `exam`.
        rule: how frames become a clip.
        zone_rule: how clips become a zone.
        ordered: whether the classes have an order. Classes that have none know no worst, so neither zones nor exams; of equal ones the
            first of the vocabulary is predicted, and a clip whose frames carry two labels equally often has none.

    Returns:
        The columns of the predictions table (`frame` -1; `clip` and `zone` missing above their level) and `n_frames`. Exams also have
        `zones_present`, the zones that count in both sums (predicted, and labelled if any is), `sum_pred` and `sum_target` over them,
        and `sum_scaled`, `sum_target_scaled`: those times (zones of the protocol / zones present). Missing where undefined.

    Raises:
        UserError: an unknown level or rule, one that classes without an order do not have, or `mean` for a member without probabilities.
    """
    for name, value, known in (("level", level, LEVELS), ("rule", rule, RULE_NAMES), ("zone rule", zone_rule, ZONE_RULES)):
        if value not in known:
            raise UserError(f"No {name} is called {value!r}: use one of {', '.join(known)}.")
    if level == "frame":
        return predictions.assign(n_frames=1)
    if not ordered and (level != "clip" or rule not in ("mean", "majority")):
        raise UserError(f"Classes without an order have no {level} by the rule {rule!r}: score clips, by mean or majority.")
    clips = _pool(predictions, _KEYS["clip"], rule, ordered)
    if level == "clip":
        return clips
    pooled = zone_rule == "pooled"
    zones = _pool(_zoned(predictions), _KEYS["zone"], rule) if pooled else _worst(_zoned(clips), _KEYS["zone"])
    if level == "zone":
        return zones.assign(clip=None)
    return _exams(pd.concat([part for part in (zones, clips[clips["zone"].isna()]) if len(part)] or [zones]))


def probabilities(table: pd.DataFrame) -> np.ndarray:
    """(N, C) float64, the columns `p_0`, `p_1`, ... of a predictions table."""
    columns = sorted((c for c in table.columns if c.startswith("p_")), key=lambda c: int(c[2:]))
    return table[columns].to_numpy(dtype=np.float64)


def _zoned(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["zone"].notna()]


def _units(table: pd.DataFrame, keys: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The unit of each row (N,), counted from 0, and the first row of each unit (U,)."""
    codes = table.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    return codes, np.unique(codes, return_index=True)[1]


def _votes(labels: np.ndarray, codes: np.ndarray, n_units: int, n_classes: int) -> np.ndarray:
    """(U, C): the rows of each class in each unit; -1 counts nowhere."""
    known = labels >= 0
    return np.bincount(codes[known] * n_classes + labels[known], minlength=n_units * n_classes).reshape(n_units, n_classes)


def _pool(table: pd.DataFrame, keys: list[str], rule: str, ordered: bool = True) -> pd.DataFrame:
    """Frames to units by a rule; of classes without an order `mean` and `majority` take the first of equal ones."""
    best = _most_severe_argmax if ordered else _first_argmax
    codes, first = _units(table, keys)
    probs, pred, target = probabilities(table), table["pred"].to_numpy(), table["target"].to_numpy()
    frames = np.bincount(codes, minlength=len(first))
    votes, labels = (_votes(column, codes, len(first), probs.shape[1]) for column in (pred, target))
    voted = votes.sum(axis=1) > 0
    voiced = (pred >= 0) | ~voted[codes]
    total = np.stack([np.bincount(codes, weights=np.where(voiced, p, 0.0), minlength=len(first)) for p in probs.T], axis=1)
    mean = total / np.bincount(codes, weights=voiced, minlength=len(first))[:, None]
    if rule == "mean":
        if np.isnan(mean).all(axis=1).any():
            who = table["member"].iloc[first[np.isnan(mean).all(axis=1)][0]]
            raise UserError(f"Member {who!r} has rows without probabilities: score it by the rule {', '.join(RULES)}, not mean.")
        ruled = np.where(voted, best(mean), -1)
    else:
        ruled = RULES[rule](votes, votes.sum(axis=1)) if ordered else np.where(voted, best(votes), -1)
    units = table.iloc[first].assign(
        frame=-1,
        pred=np.where(frames == 1, pred[first], ruled),
        target=RULES["majority" if rule == "mean" else rule](labels, labels.sum(axis=1)) if ordered else _only(labels),
        fold=_common(table["fold"].to_numpy(), codes, first),
        n_frames=frames,
        **{f"p_{c}": mean[:, c] for c in range(mean.shape[1])},
    )
    return units.reset_index(drop=True)


def _worst(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The row of the highest prediction in each unit (of equal ones the highest mean severity), with the unit's highest target."""
    table = _comparable(table, keys)
    codes, first = _units(table, keys)
    probs, pred = probabilities(table), table["pred"].to_numpy()
    order = np.lexsort((np.nansum(probs * np.arange(probs.shape[1]), axis=1), pred, codes))
    last = order[np.flatnonzero(np.diff(codes[order], append=len(first)))]
    target = np.full(len(first), -1)
    np.maximum.at(target, codes, table["target"].to_numpy())
    frames = np.bincount(codes, weights=table["n_frames"], minlength=len(first)).astype(np.int64)
    fold = _common(table["fold"].to_numpy(), codes, first)
    return table.iloc[last].assign(target=target, n_frames=frames, fold=fold).reset_index(drop=True)


def _comparable(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Without the rows that lack a target in units where another row has one: prediction and target look at the same rows."""
    codes, first = _units(table, keys)
    known = table["target"].to_numpy() >= 0
    labelled = np.bincount(codes, weights=known, minlength=len(first)) > 0
    return table[known | ~labelled[codes]]


def _common(values: np.ndarray, codes: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(U,) the value that all rows of a unit share, -1 where they differ."""
    differs = np.bincount(codes, weights=values != values[first][codes], minlength=len(first)) > 0
    return np.where(differs, -1, values[first])


def _exams(zones: pd.DataFrame) -> pd.DataFrame:
    """Zones (and clips without a zone) to exams."""
    keys = _KEYS["exam"]
    zones = _comparable(zones, keys)
    exams = _worst(zones, keys)
    codes, _ = _units(zones, keys)
    counts = ((zones["pred"] >= 0) & zones["zone"].notna()).to_numpy()
    present = np.bincount(codes, weights=counts, minlength=len(exams))
    full = pd.to_numeric(exams["protocol"], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    exams["zones_present"] = present.astype(np.int64)
    for name, column, scaled in (("sum_pred", "pred", "sum_scaled"), ("sum_target", "target", "sum_target_scaled")):
        values = np.where(counts, zones[column].to_numpy(), 0)
        total = np.bincount(codes, weights=values, minlength=len(exams))
        exams[name] = np.where((present > 0) & (exams[column] >= 0), total, np.nan)
        exams[scaled] = exams[name].to_numpy() * np.divide(full, present, out=np.full(len(full), np.nan), where=present > 0)
    return exams.assign(clip=None, zone=None)
