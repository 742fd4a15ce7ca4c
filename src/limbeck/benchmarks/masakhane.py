"""MasakhaNER 2.0 and MasakhaPOS: what is particular about them; `conll.read` reads them.

*Source*: Adelani et al. 2022 (arXiv 2210.12391), github.com/masakhane-io/masakhane-ner, folder
MasakhaNER2.0/data; Dione et al. 2023 (arXiv 2305.13989), github.com/masakhane-io/masakhane-pos,
folder data. Licences as stated in those repositories.
"""

# fmt: off
LANGUAGES = (
    "bam", "bbj", "ewe", "fon", "hau", "ibo", "kin", "lug", "luo", "mos", "nya", "pcm", "sna",
    "swa", "tsn", "twi", "wol", "xho", "yor", "zul",
)
# fmt: on
"""ISO 639-3 names of the folders, the same twenty in both."""

ENTITY_TYPES = ("PER", "ORG", "LOC", "DATE")
"""In the order of the hub dataset's classes."""

# fmt: off
UPOS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN",
    "PUNCT", "SCONJ", "SYM", "VERB", "X",
)
# fmt: on
"""The seventeen universal parts of speech, in alphabetical order."""

NER_CITATION = "Adelani et al. 2022, MasakhaNER 2.0 (EMNLP)"
POS_CITATION = "Dione et al. 2023, MasakhaPOS (ACL)"
