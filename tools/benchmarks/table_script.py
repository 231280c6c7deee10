"""What an engineer writes to score a file: a table, one array of float32, one session, batches.

`python tools/benchmarks/table_script.py FILE MODEL` reads a `.csv` with polars and a `.parquet` with pyarrow, and
prints the number of scores and the highest. The file's columns s0, s1, … are the model's channels. It makes no windows,
alarms and events, and a cell that is empty or no number is nobody's concern.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime as ort

FILE, MODEL = sys.argv[1:3]
BATCH_ROWS = 4096

if FILE.endswith(".csv"):
    import polars  # noqa: ICN001 - no abbreviation

    table = polars.read_csv(FILE)
    rows = table.select([name for name in table.columns if name.startswith("s")]).to_numpy()
else:
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(FILE)
    rows = np.column_stack([columns[name].to_numpy() for name in columns.column_names if name.startswith("s")])
readings = rows.astype(np.float32)[:, np.newaxis, :]
options = ort.SessionOptions()
options.intra_op_num_threads = 1  # as a stream's session has it
session = ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
scores = np.concatenate(
    [
        session.run(["score"], {"readings": readings[start : start + BATCH_ROWS]})[0]
        for start in range(0, len(readings), BATCH_ROWS)
    ]
)
print(len(scores), float(scores.max()))
