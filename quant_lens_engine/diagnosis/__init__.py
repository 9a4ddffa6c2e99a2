"""What the measurements say about a variant."""

from quant_lens_engine.diagnosis.verdict import LEVEL_RULES, SIGNAL_RULES, LevelRule, SignalRule, give_verdict

__all__ = ["LEVEL_RULES", "SIGNAL_RULES", "LevelRule", "SignalRule", "give_verdict"]
