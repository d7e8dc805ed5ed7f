"""Vocabularies: severity scores and their standards, signs, mask classes, and the zones of the examination protocols."""

from typing import Final

SCORES: Final = (0, 1, 2, 3)

STANDARDS: Final = ("soldati", "xing", "raillard")
"""What 0-3 means differs between papers; a table mixes no two.

`soldati`: Soldati et al. 2020 (also Corso; Muñoz after Soldati). `xing`: Xing et al. 2022, section 2.3.
`raillard`: the Lung Ultrasound Score of Raillard et al.
"""

SIGNS: Final = ("a_lines", "b_lines", "effusion", "consolidation")

MASK_CLASSES: Final = ("pleural_line", "a_line", "b_line", "consolidation", "effusion", "rib_shadow")
"""Bit i of a mask pixel says that class i is there: classes overlap (a B-line starts in the pleural line)."""

_REGIONS: Final = ("anterior", "lateral", "posterior")

ZONES: Final = {
    # BLUE points, three a side (Lichtenstein 2014), as COVID-BLUES names them.
    "6": ("L1", "L2", "L3", "R1", "R2", "R3"),
    # Anterior, lateral, posterior x upper, lower, each side (Xing et al. section 2.1; Raillard et al.; Muñoz et al. Dataset-2).
    "12": tuple(f"{side}-{region}-{level}" for side in "LR" for region in _REGIONS for level in ("upper", "lower")),
    # Soldati et al. 2020: posterior 1-6, lateral 7-10, anterior 11-14.
    "14": tuple(str(n) for n in range(1, 15)),
}
"""Zones of each protocol, by the protocol's name (its number of zones)."""
