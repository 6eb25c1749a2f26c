"""The words of a run so small that each of its stages takes about a second, or less."""

SMALL = [
    "data.rows=600", "data.users=12", "data.items=8", "model.embedding=4", "model.bottom=[8]",
    "model.top=[12,6]", "trainer=cpu", "trainer.max_epochs=1", "trainer.batch_size=128",
]  # fmt: skip
"""A DLRM of planted clicks."""

QUICK = [
    "explain.select.rows=50", "explain.method.steps=4", "explain.neurons.steps=4",
    "explain.tolerance=1", "explain/compare=none", "explain.pair_rows=0",
    "explain.faithfulness.rows=20", "explain.faithfulness.steps=4",
    "explain.faithfulness.subsets=10", "explain.faithfulness.points=1",
    "explain.faithfulness.models=1",
]  # fmt: skip
"""An explanation of it that only says the least."""
