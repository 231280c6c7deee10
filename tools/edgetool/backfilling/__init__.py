"""The past of a whole fleet, scored asset by asset; edgetool/commands/backfill.py puts it together.

`score_asset` is for engines that group rows by asset themselves; docs/scale.md shows it in Spark.
"""

from edgetool.backfilling.scoring import AssetScores, Scoring, score_asset, scoring_of

__all__ = ["AssetScores", "Scoring", "score_asset", "scoring_of"]
