"""Writes docs/onnx.md from fastweights/exports.py: python docs/make_onnx.py [--check]"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's package, installed or not

from fastweights.exports import EXPORTS, Export  # noqa: E402

DOCUMENT = ROOT / "docs" / "onnx.md"


def page() -> str:
    """Returns the Markdown page: how to export, then a row for each layer."""
    parts = [
        "# ONNX\n",
        "```python",
        "import torch",
        "from fastweights import zoo\n",
        "layer, x = zoo.CondConv(16, 32, 3).eval(), torch.randn(2, 16, 20, 24)",
        'batch = {0: torch.export.Dim("batch")}',
        'torch.onnx.export(layer, (x,), "layer.onnx", dynamo=True, dynamic_shapes=(batch,))',
        "```\n",
        'Needs `pip install "fastweights[export]"`. *batch*: exported once, the graph takes batches of any size; in',
        "onnxruntime it gives what torch gives, to 1e-5. `tests/test_exports.py` exports one row of each kind, with",
        "`FASTWEIGHTS_EVERY_EXPORT=1` every one. A grouped convolution would fix the batch, as ONNX has no number of",
        "groups that follows it: a kernel an image is exported as gathered patches and one batched product; what",
        "`convert.layer` makes of it is exported as ordinary convolutions around gates.\n",
        "<!-- Generated from fastweights/exports.py by `python docs/make_onnx.py`. -->\n",
        "| layer | batch | in the graph |",
        "| --- | :-: | --- |",
        *(_row(export) for export in EXPORTS),
    ]
    return "\n".join(parts) + "\n"


def _row(export: Export) -> str:
    name, *rest = export.name.split(", ")
    shown = ", ".join([f"`{name}`" if " " not in name else name, *rest])
    return f"| {shown} | any | {export.note} |"


if __name__ == "__main__":
    from generated import main

    sys.exit(main(DOCUMENT, page))
