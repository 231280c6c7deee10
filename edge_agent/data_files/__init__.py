"""Sensor data files: CSV (`.csv`, `.csv.gz`), `.npz` and Parquet; docs/data.md describes the columns."""

from edge_agent.data_files.arrays import open_arrays
from edge_agent.data_files.columns import Columns
from edge_agent.data_files.reading import (
    MOST_STEPS,
    DataFiles,
    DataStream,
    first_time,
    follow,
    in_order,
    open_data,
    read_sensor_data,
)
from edge_agent.data_files.sensor_data import SensorData, in_batches

__all__ = [
    "MOST_STEPS",
    "Columns",
    "DataFiles",
    "DataStream",
    "SensorData",
    "first_time",
    "follow",
    "in_batches",
    "in_order",
    "open_arrays",
    "open_data",
    "read_sensor_data",
]
