"""How far an explanation can be trusted: completeness, faithfulness, stability, ground truth."""
