"""Universal NER v1: what is particular about it; `conll.read` reads it.

*Source*: Mayhew et al. 2024 (arXiv 2311.09122), github.com/UniversalNER, one repository per
treebank with files `<treebank>-ud-<split>.iob2`. On the hub the configurations are treebanks
(`en_ewt`), the split "dev" is called "validation".
"""

ENTITY_TYPES = ("PER", "ORG", "LOC")
"""In the order of the hub dataset's classes."""

ERRATA = {"B-OTH": "O", "I-OTH": "O", "B-O": "O"}
"""Leftovers of annotation in some files. *Source*: github.com/UniversalNER/uner_code at 66bfd54,
prepare_data.py, which reads them so."""

# fmt: off
TREEBANKS = (
    "ceb_gja", "zh_gsd", "zh_gsdsimp", "zh_pud", "hr_set", "da_ddt", "en_ewt", "en_pud", "de_pud",
    "pt_bosque", "pt_pud", "ru_pud", "sr_set", "sk_snk", "sv_pud", "sv_talbanken", "tl_trg",
    "tl_ugnayan",
)
# fmt: on
"""The hub dataset's configurations. A local folder may have any name."""

CITATION = "Mayhew et al. 2024, Universal NER (NAACL)"
