"""The eight steps of the HSC pipeline in little: what the programs in ``bin`` have in common."""

VERSION = "hscdemo_1"
